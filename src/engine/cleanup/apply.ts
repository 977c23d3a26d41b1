import type { CopyStatus } from "../../domain/backup.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { Storage } from "../../storage/storage.js";
import { recordAudit } from "../audit.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";
import type { SurveyedBackup } from "../verify/survey.js";
import type { CleanupPlan, StoragePlan } from "./plan.js";
import { removeReports } from "./reports.js";

export interface Removed {
  backups: number;
  objects: number;
  bytes: number;
  /** Files of reports of test restores, on this host. */
  reports: number;
  /** By storage. */
  bytesIn: Map<string, number>;
  /** Kept by the storage itself until a time of its own: no failure, tried again by the next cleanup. */
  locked: { storage: string; path: string; why: string }[];
  /** Without a storage: a file of this host. */
  failed: { storage: string; path: string; why: string }[];
}

const AT_A_TIME = 8;

/** Storage by storage, as far as each allows it. What is killed in between leaves objects without a manifest, never the other way round. */
export async function applyPlan(site: Site, plan: CleanupPlan): Promise<Removed> {
  const removed: Removed = {
    backups: 0,
    objects: 0,
    bytes: 0,
    reports: 0,
    bytesIn: new Map(),
    locked: [],
    failed: [],
  };
  const deleting = await site.deletingStorages();
  await Promise.all(
    plan.storages.map(async (planned) => {
      const opened = deleting.find(({ name }) => name === planned.storage);
      if (opened?.storage) return applyTo(site, opened.storage, planned, plan, removed);
      const why = reasonOf(opened && opened.storage === null ? opened.error : "it is not open");
      removed.failed.push({ storage: planned.storage, path: "", why });
    }),
  );
  site.report.progressEnd();
  const stayed = await removeReports(plan.reports);
  removed.reports = plan.reports.remove.length - stayed.length;
  removed.failed.push(...stayed.map((one) => ({ storage: "", ...one })));
  return removed;
}

async function applyTo(
  site: Site,
  storage: Storage,
  { remove, wal, orphans }: StoragePlan,
  { survey }: CleanupPlan,
  removed: Removed,
): Promise<void> {
  const listed = survey.listed.get(storage.name) ?? new Map();
  // newest first: an increment goes before what it builds on
  const order = remove.toSorted((a, b) => (a.id < b.id ? 1 : -1));
  for (const [done, backup] of order.entries()) {
    site.signal.throwIfAborted();
    await removeBackup(site, storage, backup, listed, removed);
    const task = `cleaning ${storage.name}`;
    site.report.progress({ task, done: done + 1, total: order.length, unit: "objects" });
  }
  await removeAll(site, storage, [...wal, ...orphans], removed);
}

async function removeBackup(
  site: Site,
  storage: Storage,
  backup: SurveyedBackup,
  listed: Map<string, { key: string; bytes: number }>,
  removed: Removed,
): Promise<void> {
  const { folder, id, body } = backup;
  const manifestFacts = listed.get(manifestKey(folder));
  if (manifestFacts === undefined) return;
  // said before it is done: killed in between, the copy is there and the next cleanup takes it, and nobody misses it
  const before = await recordCopy(site, storage, backup, "removed");
  await recordAudit(site, "backup.remove", id, { storage: storage.name, label: body.label });
  if (!(await removeOne(site, storage, manifestFacts, removed))) {
    await recordCopy(site, storage, backup, before ?? "stored");
    await recordAudit(site, "backup.stays", id, { storage: storage.name, label: body.label });
    return;
  }
  site.step("cleanup-manifest-removed");
  removed.backups++;
  const own = body.objects.flatMap(({ name }) => listed.get(`${folder}/${name}`) ?? []);
  await removeAll(site, storage, own, removed);
  site.step("cleanup-objects-removed");
}

async function removeAll(
  site: Site,
  storage: Storage,
  objects: { key: string; bytes: number }[],
  removed: Removed,
): Promise<void> {
  const waiting = objects[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (const object of waiting) {
      site.signal.throwIfAborted();
      await removeOne(site, storage, object, removed);
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
}

/** How storages say that an object must stay: Object Lock of S3, bucket locks of R2, file locks of B2. */
const LOCKED = /object ?lock|locked|retention|legal hold|worm/i;

/** By the provider's own words: names that somebody gave to storages and folders say nothing. */
const saysLocked = ({ name, location }: Storage, key: string, message: string): boolean =>
  LOCKED.test([key, location, name].reduce((text, own) => text.replaceAll(own, ""), message));

async function removeOne(
  site: Site,
  storage: Storage,
  { key, bytes }: { key: string; bytes: number },
  removed: Removed,
): Promise<boolean> {
  try {
    await storage.delete(key);
    removed.objects++;
    removed.bytes += bytes;
    removed.bytesIn.set(storage.name, (removed.bytesIn.get(storage.name) ?? 0) + bytes);
    return true;
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError)) throw error;
    const kept = { storage: storage.name, path: key, why: reasonOf(error) };
    if (saysLocked(storage, key, error.message)) removed.locked.push(kept);
    else removed.failed.push(kept);
    return false;
  }
}

/** Storages are cleaned side by side, and each changes its part of the same records: one at a time. */
let turn: Promise<unknown> = Promise.resolve();
function recordCopy(
  site: Site,
  storage: Storage,
  backup: SurveyedBackup,
  status: CopyStatus,
): Promise<CopyStatus | null> {
  const mine = turn.then(() => changeCopy(site, storage, backup, status));
  turn = mine.catch(() => undefined); // told to whoever asked
  return mine;
}

/** Answers what the catalog said before. */
async function changeCopy(
  site: Site,
  storage: Storage,
  { id }: SurveyedBackup,
  status: CopyStatus,
): Promise<CopyStatus | null> {
  try {
    const [record] = await site.catalog.backups({ reference: id, limit: 1 });
    if (record === undefined) return null;
    const copies = record.copies.map((copy) => (copy.storage === storage.name ? { ...copy, status } : copy));
    await site.catalog.saveBackups([{ ...record, copies }]);
    return record.copies.find((copy) => copy.storage === storage.name)?.status ?? null;
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(`the catalog still lists ${id} in ${storage.name}: jbackup catalog rebuild corrects it`);
    return null;
  }
}
