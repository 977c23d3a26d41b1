import type { BackupKind } from "../domain/backup.js";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import type { Storage } from "../storage/storage.js";
import { raiseAlert } from "./alert.js";
import { tooFewCopies } from "./replicate.js";
import type { OpenedStorage, Site } from "./site.js";
import { alertForeign, checkMarker, isForeign, rememberPlace, requireNew } from "./storageMarkers.js";

export interface UsableStorages {
  usable: Storage[];
  lost: Map<string, Error>;
}

export function requireStorage(site: Site, name: string): void {
  const names = site.config.storages.map((storage) => storage.name);
  if (names.includes(name)) return;
  throw new JBackupError("not_found", `there is no storage "${name}"`, {
    hint: `storages are ${names.join(", ")}`,
  });
}

/** Nearest first: reading from the local disk costs nothing. */
export const nearestFirst = (storages: Storage[]): Storage[] =>
  storages.toSorted((a, b) => Number(b.kind === "local") - Number(a.kind === "local"));

async function tryEach(
  opened: OpenedStorage[],
  use: (storage: Storage) => Promise<unknown>,
  isFatal: (error: unknown) => boolean = () => false,
): Promise<UsableStorages> {
  const lost = new Map<string, Error>();
  const usable: Storage[] = [];
  await Promise.all(
    opened.map(async (entry) => {
      try {
        if (entry.storage === null) throw entry.error;
        await use(entry.storage);
        usable.push(entry.storage);
      } catch (error) {
        if (isFatal(error)) throw error;
        lost.set(entry.name, error as Error);
      }
    }),
  );
  const order = opened.map(({ name }) => name);
  return { usable: usable.toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name)), lost };
}

/** The storages that take a backup now. Refused before the database is touched when they are too few, or another site's. */
export async function storagesForWriting(site: Site): Promise<UsableStorages> {
  const opened = await site.storages();
  const createdAt = site.clock.now().toISOString();
  // look everywhere before writing anywhere: one foreign storage stops the run with nothing written
  const seen = await tryEach(
    opened,
    async (storage) => {
      const marker = await site.storage.readSite(storage);
      checkMarker(site, storage, marker);
      if (marker === undefined) await requireNew(site, storage);
    },
    isForeign,
  );
  const claimed = await tryEach(
    opened.filter(({ name }) => !seen.lost.has(name)),
    async (storage) => {
      await site.storage.claimSite(storage, { site: site.config.site, createdAt });
      await rememberPlace(site, storage);
    },
    isForeign,
  );
  const lost = new Map([...seen.lost, ...claimed.lost]);
  if (claimed.usable.length < site.config.minCopies)
    throw tooFewCopies(site.config.minCopies, claimed.usable.length, lost);
  return { usable: claimed.usable, lost };
}

/** The storages that can be read now, nearest first. One that cannot, or is another's, is said and left out. */
export async function storagesForReading(
  site: Site,
  except: string[] = [],
  needed: "some" | "any" = "some",
): Promise<UsableStorages> {
  const opened = (await site.storages()).filter(({ name }) => !except.includes(name));
  const found = await tryEach(opened, (storage) =>
    site.storage.readSite(storage).then((marker) => checkMarker(site, storage, marker)),
  );
  for (const [name, error] of found.lost) {
    site.report.warn(`storage ${name} cannot be read: ${reasonOf(error)}`);
    if (isForeign(error)) await alertForeign(site, name, error);
  }
  if (found.usable.length === 0 && needed === "some") {
    const foreign = [...found.lost.values()].find(isForeign);
    if (foreign) throw foreign;
    throw new JBackupError(
      "storage_unavailable",
      `no storage can be read (${[...found.lost].map(([name, error]) => `${name}: ${reasonOf(error)}`).join("; ")})`,
      {
        hint: "jbackup storages check shows what is wrong with each storage",
      },
    );
  }
  return { ...found, usable: nearestFirst(found.usable) };
}

const HOUR_MS = 3_600_000;

/** What killed runs left half-done: under the job's locks, whatever is unfinished below its folder is nobody's. */
export async function sweepStorages(
  site: Site,
  storages: Storage[],
  folder = "backups/full/",
): Promise<void> {
  await Promise.all(
    storages.map(async (storage) => {
      // WAL is archived all the time, by others as well: only what is old is surely nobody's
      const swept = (await storage.sweep(folder, 0)) + (await storage.sweep("wal/", HOUR_MS));
      if (swept > 0)
        site.report.info(`storage ${storage.name}: removed ${swept} unfinished uploads of a killed run`);
    }),
  );
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;

/** The last backup tells how much room this one needs; without one, only a warning is possible. */
export async function storagesWithoutRoom(
  site: Site,
  storages: Storage[],
  expectedBytes: number,
  kind: BackupKind = "full",
): Promise<Map<string, Error>> {
  const known = await site.catalog
    .backups({ kind, status: ["completed", "verified"], limit: 1 })
    .catch((error: unknown) => {
      if (isJBackupError(error, "catalog_unavailable")) return []; // nothing to estimate from
      throw error;
    });
  const expected = known[0]?.storedBytes;
  const lacking = new Map<string, Error>();
  for (const storage of storages) {
    const free = await storage.freeBytes?.();
    if (free === undefined) continue;
    if (expected !== undefined && free < expected) {
      const message = `storage ${storage.name} has ${gigabytes(free)} free, and the last backup took ${gigabytes(expected)}`;
      lacking.set(
        storage.name,
        new JBackupError("storage_full", message, { hint: `make room in ${storage.location}` }),
      );
    } else if (expected === undefined && free < expectedBytes) {
      site.report.warn(
        `storage ${storage.name} has ${gigabytes(free)} free for ${kind === "full" ? "a database" : "files"} of ${gigabytes(expectedBytes)}`,
      );
    }
  }
  return lacking;
}

const copyFingerprint = (storage: string): string => `copy_missing:${storage}`;

/** A storage that did not take its copy: the backup stands, the gap is named and healed later. */
export async function alertLostStorage(
  site: Site,
  storage: string,
  error: Error,
  backupId: string | null,
): Promise<void> {
  const isDenied = isJBackupError(error, "storage_denied");
  const isEmptied = isJBackupError(error) && error.details?.isEmptied === true;
  await raiseAlert(site, {
    type: "COPY_MISSING",
    severity: isDenied || isEmptied ? "critical" : "error",
    fingerprint: copyFingerprint(storage),
    message: `storage ${storage} did not take its copy: ${reasonOf(error)}`,
    hint: isEmptied
      ? (error.hint ?? null)
      : isDenied
        ? `check the credentials of storage ${storage} in jbackup.yaml, then run jbackup storages check`
        : "the next backup fills the gap when the storage works again; jbackup storages check tests it",
    backupId,
    storage,
  });
}

export const lostFingerprint = copyFingerprint;
