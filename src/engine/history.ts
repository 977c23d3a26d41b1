import type { AlertFilter, BackupFilter, RestoreFilter } from "../catalog/catalog.js";
import type { Alert, Backup, Restore, Verification } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import { recordOf } from "../domain/record.js";
import { pickOne } from "../domain/reference.js";
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
  verifications: Verification[];
  restores: Restore[];
  alerts: Alert[];
}

export const listBackups = (site: Site, filter: BackupFilter): Promise<Backup[]> =>
  site.catalog.backups(filter);
export const listRestores = (site: Site, filter: RestoreFilter): Promise<Restore[]> =>
  site.catalog.restores(filter);
export const listAlerts = (site: Site, filter: AlertFilter): Promise<Alert[]> => site.catalog.alerts(filter);

async function recordFor(site: Site, reference: string): Promise<Backup> {
  if (reference === "latest") {
    const [latest] = await site.catalog.backups({ kind: "full", limit: 1 });
    if (latest) return latest;
  } else {
    const known = pickOne(reference, await site.catalog.backups({ reference, limit: 20 }));
    if (known) return known;
  }
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

async function insideOf(site: Site, backup: Backup): Promise<Pick<ShownBackup, "contents" | "tables">> {
  if (backup.status !== "completed" && backup.status !== "verified") return { contents: null, tables: null };
  try {
    const { contents } = await openBackup(site, await findBackup(site, backup.id));
    return {
      contents: contents.entries.map(({ name, bytes }) => ({ name, bytes })),
      tables: (contents.detail.tables as TableRows[] | undefined) ?? null,
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
  const [inside, verifications, restores, alerts] = await Promise.all([
    insideOf(site, backup),
    site.catalog.verifications(backup.id),
    site.catalog.restores({ backupId: backup.id }),
    site.catalog.alerts({ backupId: backup.id }),
  ]);
  return { backup, ...inside, verifications, restores, alerts };
}
