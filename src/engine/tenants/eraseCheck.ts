import type { BackupKind } from "../../domain/backup.js";
import { nextRun, parseCron } from "../../domain/cron.js";
import { foreseeErasure } from "../../domain/erasure.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import { idProblem, parseManifestKey, pathPart } from "../../domain/reference.js";
import type { Gone, KeptBackup } from "../../domain/retention.js";
import { isHistoryName, parseWalKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { keptBackup, policyOf } from "../cleanup/kept.js";
import { type Pauses, pauses } from "../cleanup/pauses.js";
import { findBackup } from "../findBackup.js";
import { pinsOf } from "../pins.js";
import type { Site } from "../site.js";
import { storagesForReading } from "../useStorages.js";
import { type SurveyedBody, surveyedBody } from "../verify/surveyed.js";
import { goneTenants, tenantsThere } from "./gone.js";

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
  /** Whether it still has a row among the tenants, active or not; null where that cannot be asked. */
  isThere: boolean | null;
  /** Since when backups of all tenants no longer find it; null where none has noted that yet. */
  goneSince: string | null;
  backups: HoldingBackup[];
  /** The write-ahead log tells of every row that was written while it was archived. */
  wal: HoldingWal[];
  /** When the last of them is gone, if that is known of all. */
  until: string | null;
  /** What `until` takes for granted. */
  assumes: string;
  /** Why some of it does not expire just now, whatever its age: until that is mended, nothing of it goes. */
  standsStill: string[];
  /** The command that comes first; null where nothing has to be done but to wait. */
  next: string | null;
  notLookedAt: { storage: string; why: string }[];
}

const assumes = (days: number): string =>
  `a fresh full backup is made now (jbackup backup full --fresh) and one every day after it, all tenants are backed up every ${days === 1 ? "day" : `${days} days`} (jbackup backup tenant --all), cleanup runs daily, and the tenant's rows are gone from the database and vacuumed`;

/**
 * What still holds a tenant's rows: its own backups, every full one, which holds everybody's, and the WAL. The storages are
 * asked themselves, for the catalog may have forgotten.
 */
export async function eraseCheck(site: Site, tenantId: string): Promise<EraseCheck> {
  const { usable, lost } = await storagesForReading(site);
  const pins = await pinsOf(site, usable);
  const { pitrWindowMs } = site.config.retention;
  const found = new Map<string, Held>();
  const heldIn = new Map<Storage, Held[]>();
  for (const storage of usable) {
    const here: Held[] = [];
    for (const [id, kind] of await idsIn(storage, tenantId)) {
      const one = found.get(id) ?? (await lookAt(site, id, kind));
      found.set(id, one);
      here.push(one);
    }
    heldIn.set(storage, here);
  }
  const bodies = [...found.values()].flatMap(({ body }) => (body === null ? [] : [{ body }]));
  const pausing = await pauses(site, { backups: bodies });
  const presence = await presenceOf(site, tenantId);
  const lookedForEveryDays = daysBetween(site);
  const wal: HoldingWal[] = [];
  for (const [storage, here] of heldIn) {
    const { until, reasons, walUntil } = foreseeErasure({
      policy: policyOf(site, storage.name),
      backups: here.flatMap(({ kept }) => kept ?? []),
      pins,
      pitrWindowMs,
      now: site.clock.now(),
      tenantId,
      gone: presence.gone,
      lookedForEveryDays,
      ...pausing,
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
    isThere: presence.isThere,
    goneSince: presence.goneSince,
    backups,
    wal,
    until: latest([...backups, ...wal].map(({ until }) => until)),
    assumes: assumes(lookedForEveryDays),
    standsStill: standing([...found.values()], pausing),
    next: nextFor(presence, backups),
    notLookedAt: [...lost].map(([storage, error]) => ({ storage, why: reasonOf(error) })),
  };
}

interface Presence {
  isThere: boolean | null;
  goneSince: string | null;
  /** What to go by from now on. */
  gone: Gone | null;
}

/** Whoever cannot be looked for is taken for gone, as what is assumed says. */
async function presenceOf(site: Site, tenantId: string): Promise<Presence> {
  const there = site.config.tenants === undefined ? null : await tenantsThere(site);
  const isThere = there === null || there.ids.size === 0 ? null : there.ids.has(tenantId);
  if (isThere === true) return { isThere, goneSince: null, gone: null };
  const known = (await goneTenants(site, async () => there)).get(tenantId);
  return {
    isThere,
    goneSince: known?.since.toISOString() ?? null,
    gone: known ?? { since: site.clock.now(), seen: [] },
  };
}

const DAY_MS = 86_400_000;
const USUAL_DAYS = 7;

/** Between two backups of all tenants, by the schedule. */
function daysBetween({ config, clock }: Site): number {
  const parsed = parseCron(config.schedule.tenant ?? "");
  if (!parsed.ok) return USUAL_DAYS;
  const first = nextRun(parsed.cron, clock.now());
  return Math.max(1, Math.round((nextRun(parsed.cron, first).getTime() - first.getTime()) / DAY_MS));
}

/** Each reason once. */
function standing(found: Held[], { paused, isFailing }: Pauses): string[] {
  const kept = found.flatMap(({ kept: one }) => one ?? []);
  const failing = new Set(
    kept
      .filter(isFailing)
      .map(({ kind, method }) => [method, kind].filter((part) => part !== null).join(" ")),
  );
  return [
    ...new Set(kept.flatMap((one) => paused(one) ?? [])),
    ...[...failing].map((what) => `newer ${what} backups failed, or none is made any more`),
  ];
}

/** Expiry of the tenant's own backups begins with a backup of all tenants that does not find it. */
const nextFor = ({ isThere, goneSince }: Presence, backups: HoldingBackup[]): string | null =>
  isThere === false && goneSince === null && backups.some(({ kind }) => kind === "tenant")
    ? "jbackup backup tenant --all"
    : null;

interface Held {
  id: string;
  label: string;
  kind: BackupKind;
  createdAt: string | null;
  /** As retention sees it; null where its manifest cannot be read. */
  kept: KeptBackup | null;
  body: SurveyedBody | null;
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
    const body = surveyedBody(manifest.body);
    return {
      id,
      label,
      kind,
      createdAt,
      kept: keptBackup({ id, body }, true),
      body,
      trouble: null,
      copies: [],
    };
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    return {
      id,
      label: id,
      kind,
      createdAt: null,
      kept: null,
      body: null,
      trouble: error.message,
      copies: [],
    };
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
