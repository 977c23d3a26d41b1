import type { BackupKind } from "../../domain/backup.js";
import { foreseeErasure } from "../../domain/erasure.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import { idProblem, parseManifestKey, pathPart } from "../../domain/reference.js";
import type { KeptBackup } from "../../domain/retention.js";
import { isHistoryName, parseWalKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { keptBackup, policyOf } from "../cleanup/kept.js";
import { findBackup } from "../findBackup.js";
import { pinsOf } from "../pins.js";
import type { Site } from "../site.js";
import { storagesForReading } from "../useStorages.js";
import { surveyedBody } from "../verify/surveyed.js";

export interface HoldingBackup {
  id: string;
  label: string;
  kind: BackupKind;
  createdAt: string | null;
  storages: string[];
  /** When the last copy goes; null: nothing says when. */
  until: string | null;
  /** Why cleanup keeps it today. */
  why: string[];
}

export interface HoldingWal {
  storage: string;
  objects: number;
  bytes: number;
  until: string | null;
}

export interface EraseCheck {
  tenantId: string;
  holdsData: boolean;
  backups: HoldingBackup[];
  /** The write-ahead log tells of every row that was written while it was archived. */
  wal: HoldingWal[];
  /** When the last of them is gone, if that is known of all. */
  until: string | null;
  /** What `until` takes for granted. */
  assumes: string;
  notLookedAt: { storage: string; why: string }[];
}

const ASSUMES =
  "a fresh full backup is made now (jbackup backup full --fresh) and one every day after it, cleanup runs daily, and the tenant's rows are gone from the database and vacuumed";

/**
 * What still holds a tenant's rows: its own backups, every full one, which holds everybody's, and the WAL. The storages are
 * asked themselves, for the catalog may have forgotten.
 */
export async function eraseCheck(site: Site, tenantId: string): Promise<EraseCheck> {
  const { usable, lost } = await storagesForReading(site);
  const pins = await pinsOf(site, usable);
  const { pitrWindowMs } = site.config.retention;
  const found = new Map<string, Held>();
  const wal: HoldingWal[] = [];
  for (const storage of usable) {
    const here: Held[] = [];
    for (const [id, kind] of await idsIn(storage, tenantId)) {
      const held = found.get(id) ?? (await lookAt(site, id, kind));
      found.set(id, held);
      here.push(held);
    }
    const { until, reasons, walUntil } = foreseeErasure({
      policy: policyOf(site, storage.name),
      backups: here.flatMap(({ kept }) => kept ?? []),
      pins,
      pitrWindowMs,
      now: site.clock.now(),
    });
    for (const held of here)
      held.copies.push({
        storage: storage.name,
        until: until.get(held.id)?.toISOString() ?? null,
        why: reasons.get(held.id) ?? [],
      });
    const log = await walIn(storage);
    if (log.objects > 0) wal.push({ storage: storage.name, ...log, until: walUntil?.toISOString() ?? null });
  }
  const backups = [...found.values()].map(holding).sort((a, b) => (a.id < b.id ? 1 : -1));
  return {
    tenantId,
    holdsData: backups.length + wal.length > 0,
    backups,
    wal,
    until: latest([...backups, ...wal].map(({ until }) => until)),
    assumes: ASSUMES,
    notLookedAt: [...lost].map(([storage, error]) => ({ storage, why: reasonOf(error) })),
  };
}

interface Held {
  id: string;
  label: string;
  kind: BackupKind;
  createdAt: string | null;
  /** As retention sees it; null where its manifest cannot be read. */
  kept: KeptBackup | null;
  trouble: string | null;
  copies: { storage: string; until: string | null; why: string[] }[];
}

async function idsIn(storage: Storage, tenantId: string): Promise<Map<string, BackupKind>> {
  const ids = new Map<string, BackupKind>();
  // under some ids nothing can be stored
  const own = idProblem(tenantId) === null ? [`backups/tenant/${pathPart(tenantId)}/`] : [];
  for (const prefix of ["backups/full/", ...own])
    for await (const { key } of storage.list(prefix)) {
      const place = parseManifestKey(key);
      if (place !== null) ids.set(place.id, place.kind);
    }
  return ids;
}

/** A manifest that cannot be read makes nothing better: its objects are there. */
async function lookAt(site: Site, id: string, kind: BackupKind): Promise<Held> {
  try {
    const { manifest } = await findBackup(site, id);
    const { label, createdAt } = manifest.body;
    return {
      id,
      label,
      kind,
      createdAt,
      kept: keptBackup({ id, body: surveyedBody(manifest.body) }, true),
      trouble: null,
      copies: [],
    };
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    return { id, label: id, kind, createdAt: null, kept: null, trouble: error.message, copies: [] };
  }
}

const holding = ({ id, label, kind, createdAt, copies, trouble }: Held): HoldingBackup => ({
  id,
  label,
  kind,
  createdAt,
  storages: copies.map(({ storage }) => storage),
  until: latest(copies.map(({ until }) => until)),
  why: [...new Set([...(trouble === null ? [] : [trouble]), ...copies.flatMap(({ why }) => why)])],
});

/** Null when of any of them nothing is known, or there is none. */
const latest = (times: (string | null)[]): string | null =>
  times.includes(null) ? null : ((times as string[]).sort().at(-1) ?? null);

async function walIn(storage: Storage): Promise<{ objects: number; bytes: number }> {
  let objects = 0;
  let bytes = 0;
  for await (const { key, bytes: more } of storage.list("wal/")) {
    const parsed = parseWalKey(key);
    if (parsed === null || isHistoryName(parsed.file.name)) continue;
    objects++;
    bytes += more;
  }
  return { objects, bytes };
}
