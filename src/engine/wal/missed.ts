import { isJBackupError, reasonOf } from "../../domain/errors.js";
import { epochKey, parseWalFile, walKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { resolveAlert } from "../alert.js";
import { requireUnspoilt } from "../provedKeys.js";
import type { Site } from "../site.js";
import { trustedSigners } from "../siteKeys.js";
import { alertLostStorage, lostFingerprint, nearestFirst } from "../useStorages.js";

import { readMissed, updateMissed } from "./missedList.js";
import { claimOf, otherContent } from "./standing.js";
import type { WalWriter } from "./walWriter.js";

/** Storages that still lack something. */
export const behindStorages = async (site: Site): Promise<string[]> => Object.keys(await readMissed(site));

/** Storages that failed in this run, and are not merely slow. */
export const failing = ({ missed }: WalWriter): string[] =>
  [...missed].flatMap(([storage, { error, isBack }]) => (error === null || isBack ? [] : [storage]));

/** Notes what this run's storages missed, and raises the alarm for those that fail. */
export async function noteMissed(site: Site, { missed }: Pick<WalWriter, "missed">): Promise<void> {
  if (missed.size === 0) return;
  await updateMissed(site, (known) => {
    for (const [storage, { names }] of missed)
      known[storage] = withoutReplaced([...new Set([...(known[storage] ?? []), ...names])]);
  });
  for (const [storage, { error }] of missed)
    if (error !== null) await alertLostStorage(site, storage, error, null);
}

/** Notes what was missed so far while the writer goes on: what is missed from here on comes with the next look. */
export async function handOverMissed(site: Site, writer: Pick<WalWriter, "missed">): Promise<void> {
  const missed = new Map(writer.missed);
  writer.missed.clear();
  try {
    await noteMissed(site, { missed });
  } catch (error) {
    for (const [storage, { names, error: why }] of missed) {
      const since = writer.missed.get(storage);
      writer.missed.set(storage, {
        names: new Set([...names, ...(since?.names ?? [])]),
        error: since?.error ?? why,
      });
    }
    throw error;
  }
}

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
  const all = await site.storages();
  const opened = all.flatMap(({ storage }) => (storage === null ? [] : [storage]));
  const allOpened = opened.length === all.length;
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
          const found = await copyFile(site, systemId, file, others, target);
          // what surely nobody has any more is not wanted; what somebody may have is kept for later
          if (found === "copied" || (found === "absent" && allOpened)) healed.add(file);
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
  let isDone = false;
  await updateMissed(site, (now) => {
    const left = (now[storage] ?? []).filter((name) => !healed.has(name));
    if (left.length > 0) now[storage] = left;
    else if (healed.size === wanted) delete now[storage];
    isDone = !(storage in now);
  });
  if (!isDone) return;
  if (wanted > 0) site.report.info(`storage ${storage} now has the ${wanted} WAL files that it missed`);
  await resolveAlert(site, lostFingerprint(storage), `storage ${storage} has what it missed`);
}

type Found = "copied" | "absent" | "unsure";

/** From any other storage that has it. */
async function copyFile(
  site: Site,
  systemId: string,
  file: string,
  others: Storage[],
  target: Storage,
): Promise<Found> {
  const key = walKey(systemId, file);
  let problem: unknown = null;
  let isSure = true;
  for (const source of others) {
    try {
      const { epochId, mark } = await claimOf(site, source, key, file);
      const manifest = await read(site, source, epochKey(systemId, epochId));
      await requireKey(site, manifest, epochId);
      const sealed = await read(site, source, key);
      // a rotation of the keys may have replaced the one there
      await put(site, target, epochKey(systemId, epochId), manifest, async () => undefined);
      await put(site, target, key, sealed, async () => {
        // another process sealed the same content once more
        if ((await claimOf(site, target, key, file)).mark !== mark)
          throw otherContent(target.name, file, key, false);
      });
      return "copied";
    } catch (error) {
      site.signal.throwIfAborted();
      if (!isJBackupError(error, "object_missing")) problem ??= error;
      else isSure &&= await isAbsent(site, source, key);
    }
  }
  if (problem !== null) throw problem;
  return isSure ? "absent" : "unsure";
}

/** A piece goes when its segment is whole. But a disk that is not mounted has nothing either, and a key may be what is missing. */
async function isAbsent(site: Site, source: Storage, key: string): Promise<boolean> {
  try {
    return (await site.storage.readSite(source)) !== undefined && (await source.stat(key)) === undefined;
  } catch (error) {
    if (!isJBackupError(error)) throw error;
    return false; // what cannot be asked is not known
  }
}

/** A key that is spoilt in one storage is not given to the next. */
async function requireKey(site: Site, bytes: Buffer, epochId: string): Promise<void> {
  const expect = { site: site.config.site, backupId: epochId };
  const signers = await trustedSigners(site);
  await requireUnspoilt(site, site.format.readManifest(bytes, { signers, expect }));
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
