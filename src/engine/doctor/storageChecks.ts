import { type Finding, finding, judgeClock, judgeDeletion, judgeRoom } from "../../domain/diagnosis.js";
import { isJBackupError, reasonOf } from "../../domain/errors.js";
import type { Storage } from "../../storage/storage.js";
import type { OpenedStorage, Site } from "../site.js";
import type { Check } from "./check.js";

/** One object, always the same, so that a credential that may not delete leaves no more than this behind. */
const PROBE = "jbackup-check/doctor";

/** Each storage by itself: a slow one keeps none of the others. */
export const storageChecks = (site: Site): Check[] =>
  site.config.storages.map(({ name }, at) => ({
    group: "storages",
    name: `storage-${name}`,
    look: async () => {
      const [opened, deleting] = await Promise.all([site.storages(), site.deletingStorages()]);
      return lookAt(site, opened[at] as OpenedStorage, deleting[at]?.storage ?? null);
    },
  }));

async function lookAt(site: Site, entry: OpenedStorage, deleting: Storage | null): Promise<Finding[]> {
  const { name } = entry;
  if (entry.storage === null) return [unusable(name, entry.error)];
  const { storage } = entry;
  try {
    const marker = await site.storage.readSite(storage);
    if (marker !== undefined && marker.site !== site.config.site)
      return [
        {
          ...finding(
            "storages",
            `storage-${name}`,
            "fail",
            `storage ${name} at ${storage.location} belongs to site ${marker.site}`,
            "give this site a bucket, prefix or folder of its own in jbackup.yaml",
          ),
          exit: 10,
        },
      ];
    if (marker === undefined && (await hasBackups(site, name))) {
      for await (const _ of storage.list("")) break; // what cannot even be listed is not empty
      return [emptied(name, storage.location)];
    }
    const { clock, mayDelete } = await probe(site, storage, deleting);
    const configured = site.config.storages.find((one) => one.name === name);
    const rights = judgeDeletion({
      storage: name,
      isLocal: storage.kind === "local",
      mayDelete,
      hasCleanup: configured !== undefined && configured.kind !== "local" && configured.cleanup !== undefined,
    });
    return [
      finding("storages", `storage-${name}`, "ok", `storage ${name} can be listed, written and read`),
      clock,
      ...(rights === null ? [] : [rights]),
      ...(await room(site, storage)),
    ];
  } catch (error) {
    site.signal.throwIfAborted();
    if (!isJBackupError(error) || error.code === "bug") throw error;
    return [unusable(name, error)];
  }
}

const unusable = (name: string, error: Error): Finding =>
  finding(
    "storages",
    `storage-${name}`,
    "fail",
    `storage ${name} cannot be used: ${reasonOf(error)}`,
    (isJBackupError(error) ? error.hint : undefined) ?? "jbackup storages check tries each call by itself",
  );

/** Nothing is written there: it may be a disk that is not mounted. */
const emptied = (name: string, location: string): Finding =>
  finding(
    "storages",
    `storage-${name}`,
    "fail",
    `storage ${name} at ${location} is empty, and the catalog knows of copies in it: another bucket, or a disk that is not mounted?`,
    "mount it, or correct storages in jbackup.yaml; jbackup verify --all --heal fills a new one",
  );

async function hasBackups(site: Site, name: string): Promise<boolean> {
  const known = await site.catalog.backups({ status: ["completed", "verified"], limit: 20 }).catch(() => []); // it has its own check
  return known.some(({ copies }) =>
    copies.some(({ storage, status }) => storage === name && status === "stored"),
  );
}

/** What was just written says what time it is there, and whether the credentials write, read and delete. */
async function probe(
  site: Site,
  storage: Storage,
  deleting: Storage | null,
): Promise<{ clock: Finding; mayDelete: boolean }> {
  const askedAt = site.clock.now();
  const text = `jbackup doctor of ${site.config.site} at ${askedAt.toISOString()}\n`;
  const { signal } = site;
  await storage.put(PROBE, site.storage.bytesBody([Buffer.from(text)]), { replace: true, signal });
  const facts = await storage.stat(PROBE);
  await site.storage.readAll(storage, PROBE, { maxBytes: 10_000 });
  const mayDelete = await deleted(storage);
  if (!mayDelete && deleting !== null) await deleted(deleting);
  const apartMs = (facts?.modifiedAt ?? askedAt).getTime() - askedAt.getTime();
  return {
    clock: { ...judgeClock("storages", `storage ${storage.name}`, apartMs), name: `clock-${storage.name}` },
    mayDelete,
  };
}

async function deleted(storage: Storage): Promise<boolean> {
  try {
    await storage.delete(PROBE);
    return true;
  } catch (error) {
    if (isJBackupError(error, "storage_denied")) return false;
    throw error;
  }
}

/** Against the last backup that was stored whole, or against the database where there is none. */
async function room(site: Site, storage: Storage): Promise<Finding[]> {
  const freeBytes = await storage.freeBytes?.();
  if (freeBytes === undefined) return [];
  const known = await site.catalog
    .backups({ kind: "full", status: ["completed", "verified"], limit: 30 })
    .catch(() => []); // it has its own check
  const expectedBytes = Math.max(0, ...known.map(({ storedBytes }) => storedBytes));
  return known.length === 0 ? [] : [judgeRoom({ storage: storage.name, freeBytes, expectedBytes })];
}
