import type { AlertFilter, BackupFilter, RestoreFilter } from "../catalog/catalog.js";
import type { Alert, Backup, Pin, Restore, Verification } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import { recordOf } from "../domain/record.js";
import { pickOne } from "../domain/reference.js";
import type { TenantFacts } from "../domain/tenantBackup.js";
import type { TableRows } from "../postgres/postgres.js";
import { findBackup } from "./findBackup.js";
import { openBackup } from "./openBackup.js";
import type { Site } from "./site.js";

export type { BackupFilter } from "../catalog/catalog.js";

export interface ShownBackup {
  backup: Backup;
  /** null where this host has no key to look inside. */
  contents: { name: string; bytes: number }[] | null;
  tables: TableRows[] | null;
  /** Why cleanup must leave it alone; null where it is not pinned. */
  pin: Pin | null;
  verifications: Verification[];
  restores: Restore[];
  alerts: Alert[];
}

export const listBackups = (site: Site, filter: BackupFilter): Promise<Backup[]> =>
  site.catalog.backups(filter);
export const listRestores = (site: Site, filter: RestoreFilter): Promise<Restore[]> =>
  site.catalog.restores(filter);
export const listAlerts = (site: Site, filter: AlertFilter): Promise<Alert[]> => site.catalog.alerts(filter);

/** The one that every other command means by `latest`. Where no storage tells, the newest record is still worth showing. */
async function latestRecord(site: Site): Promise<Backup | null> {
  const [newest] = await site.catalog.backups({ kind: "full", limit: 1 });
  if (newest === undefined) return null;
  try {
    const { backupId } = (await findBackup(site, "latest")).manifest.body;
    return pickOne(backupId, await site.catalog.backups({ reference: backupId, limit: 1 }));
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    site.report.warn(`this is the newest record, and not a backup that can be restored: ${error.message}`);
    return newest;
  }
}

async function recordFor(site: Site, reference: string): Promise<Backup> {
  const known =
    reference === "latest"
      ? await latestRecord(site)
      : pickOne(reference, await site.catalog.backups({ reference, limit: 20 }));
  if (known !== null) return known;
  // not in the catalog: a manifest in some storage may still tell
  const { manifest, storages, folder } = await findBackup(site, reference);
  return recordOf(
    manifest.body,
    manifest.digest,
    storages.map(({ name, kind }) => ({
      storage: name,
      kind,
      status: "stored",
      path: folder,
      bytes: manifest.body.storedBytes,
      verifiedAt: null,
    })),
  );
}

/** Of a tenant's backup its own rows, not the shared ones that come with them. */
function tablesIn(detail: Record<string, unknown>): TableRows[] | null {
  const tenant = detail.tenant as TenantFacts | undefined;
  if (tenant === undefined) return (detail.tables as TableRows[] | undefined) ?? null;
  return tenant.tables
    .filter((table) => table.class !== "shared")
    .map(({ table, rows }) => ({ table, rows }));
}

async function insideOf(site: Site, backup: Backup): Promise<Pick<ShownBackup, "contents" | "tables">> {
  const isWhole = backup.status === "completed" || backup.status === "verified";
  if (!isWhole || backup.kind === "wal") return { contents: null, tables: null };
  try {
    const { contents } = await openBackup(site, await findBackup(site, backup.id));
    return {
      contents: contents.entries.map(({ name, bytes }) => ({ name, bytes })),
      tables: tablesIn(contents.detail),
    };
  } catch (error) {
    // no key here, a storage away, every copy damaged: what the catalog knows is still worth showing
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    site.report.warn(`the contents are not shown: ${error.message}`);
    return { contents: null, tables: null };
  }
}

/** One backup with all that is known of it. */
export async function showBackup(site: Site, reference: string): Promise<ShownBackup> {
  const backup = await recordFor(site, reference);
  const now = site.clock.now().toISOString();
  const [inside, pins, verifications, restores, alerts] = await Promise.all([
    insideOf(site, backup),
    site.catalog.pins(now),
    site.catalog.verifications({ backupId: backup.id }),
    site.catalog.restores({ backupId: backup.id }),
    site.catalog.alerts({ backupId: backup.id }),
  ]);
  const pin = pins.find(({ backupId }) => backupId === backup.id) ?? null;
  return { backup, ...inside, pin, verifications, restores, alerts };
}
