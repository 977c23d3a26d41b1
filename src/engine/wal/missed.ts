import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isJBackupError, reasonOf } from "../../domain/errors.js";
import { epochKey, parseWalFile, walKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { resolveAlert } from "../alert.js";
import type { Site } from "../site.js";
import { alertLostStorage, lostFingerprint, nearestFirst } from "../useStorages.js";
import { claimOf, otherContent } from "./lanes.js";
import type { WalWriter } from "./walStore.js";

/** Files that a storage did not take when they were archived, by storage: it gets them from another one when it works again. */
type Missed = Record<string, string[]>;

const path = (site: Site): string => join(site.config.home, `${site.config.site}.wal-missed.json`);

async function readMissed(site: Site): Promise<Missed> {
  try {
    return JSON.parse(await readFile(path(site), "utf8")) as Missed;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw error;
  }
}

/** Storages that still lack something. */
export const behindStorages = async (site: Site): Promise<string[]> => Object.keys(await readMissed(site));

/** Storages that failed in this run, and are not merely slow. */
export const failing = ({ missed }: WalWriter): string[] =>
  [...missed].flatMap(([storage, { error }]) => (error === null ? [] : [storage]));

/** Notes what this run's storages missed, and raises the alarm for those that fail. */
export async function noteMissed(site: Site, writer: WalWriter): Promise<void> {
  if (writer.missed.size === 0) return;
  const known = await readMissed(site);
  for (const [storage, { names, error }] of writer.missed) {
    known[storage] = withoutReplaced([...new Set([...(known[storage] ?? []), ...names])]);
    if (error !== null) await alertLostStorage(site, storage, error, null);
  }
  await write(site, known);
}

const write = (site: Site, missed: Missed): Promise<void> =>
  writeFileAtomic(path(site), `${JSON.stringify(missed)}\n`, { overwrite: true });

/** Pieces of a segment that is on the list as a whole are gone by now. */
function withoutReplaced(names: string[]): string[] {
  const listed = new Set(names);
  return names.filter((name) => {
    const file = parseWalFile(name);
    return file?.kind !== "piece" || !listed.has(file.segment);
  });
}

const PARALLEL = 4;

/** Gives storages that work again what they missed. Sealed bytes are copied as they are: no key is needed. */
export async function healMissed(
  site: Site,
  systemId: string,
  away: string[],
  most = Number.POSITIVE_INFINITY,
): Promise<void> {
  const missed = await readMissed(site);
  if (Object.keys(missed).length === 0) return;
  const opened = (await site.storages()).flatMap(({ storage }) => (storage === null ? [] : [storage]));
  for (const [name, files] of Object.entries(missed)) {
    const target = opened.find((storage) => storage.name === name);
    if (target === undefined || away.includes(name)) continue;
    const healed = new Set<string>();
    try {
      await site.storage.claimSite(target, {
        site: site.config.site,
        createdAt: site.clock.now().toISOString(),
      });
      const others = nearestFirst(opened.filter((storage) => storage !== target));
      const waiting = files.slice(0, most)[Symbol.iterator]();
      const worker = async (): Promise<void> => {
        for (const file of waiting) {
          await copyFile(site, systemId, file, others, target);
          healed.add(file);
        }
      };
      await Promise.all(Array.from({ length: PARALLEL }, worker));
    } catch (error) {
      site.signal.throwIfAborted();
      site.report.warn(`storage ${name} could not be given the WAL that it missed: ${reasonOf(error)}`);
    } finally {
      await strike(site, name, healed, files.length);
    }
  }
}

/** Others may have noted more meanwhile: only what was copied goes from the list. */
async function strike(site: Site, storage: string, healed: Set<string>, wanted: number): Promise<void> {
  const now = await readMissed(site);
  const left = (now[storage] ?? []).filter((name) => !healed.has(name));
  if (left.length > 0) now[storage] = left;
  else if (healed.size === wanted) delete now[storage];
  await write(site, now);
  if (storage in now) return;
  if (wanted > 0) site.report.info(`storage ${storage} now has the ${wanted} WAL files that it missed`);
  await resolveAlert(site, lostFingerprint(storage), `storage ${storage} has what it missed`);
}

/** From any other storage that has it. */
async function copyFile(
  site: Site,
  systemId: string,
  file: string,
  others: Storage[],
  target: Storage,
): Promise<void> {
  const key = walKey(systemId, file);
  let problem: unknown = null;
  for (const source of others) {
    try {
      const { epochId, mark } = await claimOf(site, source, key, file);
      const manifest = await read(site, source, epochKey(systemId, epochId));
      const sealed = await read(site, source, key);
      // a rotation of the keys may have replaced the one there
      await put(site, target, epochKey(systemId, epochId), manifest, async () => undefined);
      await put(site, target, key, sealed, async () => {
        // another process sealed the same content once more
        if ((await claimOf(site, target, key, file)).mark !== mark)
          throw otherContent(target.name, file, key);
      });
      return;
    } catch (error) {
      site.signal.throwIfAborted();
      // a piece goes when its segment is whole; the segment is a file of its own
      if (!isJBackupError(error, "object_missing")) problem ??= error;
    }
  }
  if (problem !== null) throw problem;
}

const OBJECT_MAX_BYTES = 1100 * 2 ** 20;

const read = (site: Site, storage: Storage, key: string): Promise<Buffer> =>
  site.storage.readAll(storage, key, { maxBytes: OBJECT_MAX_BYTES });

async function put(
  site: Site,
  storage: Storage,
  key: string,
  bytes: Buffer,
  onOther: () => Promise<void>,
): Promise<void> {
  try {
    await storage.put(key, site.storage.bytesBody([bytes]), { signal: site.signal });
  } catch (error) {
    if (!isJBackupError(error, "object_exists")) throw error;
    await onOther();
  }
}
