import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isJBackupError, reasonOf } from "../../domain/errors.js";
import { epochKey, walKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { resolveAlert } from "../alert.js";
import type { Site } from "../site.js";
import { alertLostStorage, lostFingerprint } from "../useStorages.js";
import { openingOf } from "./lanes.js";
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

/** Notes what this run's storages missed, and raises the alarm for them. */
export async function noteMissed(site: Site, writer: WalWriter): Promise<void> {
  if (writer.missed.size === 0) return;
  const known = await readMissed(site);
  for (const [storage, { names, error }] of writer.missed) {
    known[storage] = [...new Set([...(known[storage] ?? []), ...names])];
    await alertLostStorage(site, storage, error, null);
  }
  await writeFileAtomic(path(site), `${JSON.stringify(known)}\n`, { overwrite: true });
}

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
    const others = opened.filter((storage) => storage !== target);
    try {
      await site.storage.claimSite(target, {
        site: site.config.site,
        createdAt: site.clock.now().toISOString(),
      });
      const now = files.slice(0, most);
      for (const file of now) await copyFile(site, systemId, file, others, target);
      const left = files.slice(now.length);
      if (left.length > 0) {
        missed[name] = left;
        continue;
      }
      delete missed[name];
      site.report.info(`storage ${name} now has the ${files.length} WAL files that it missed`);
      await resolveAlert(site, lostFingerprint(name), `storage ${name} has what it missed`);
    } catch (error) {
      site.signal.throwIfAborted();
      site.report.warn(`storage ${name} could not be given the WAL that it missed: ${reasonOf(error)}`);
    }
  }
  await writeFileAtomic(path(site), `${JSON.stringify(missed)}\n`, { overwrite: true });
}

async function copyFile(
  site: Site,
  systemId: string,
  file: string,
  others: Storage[],
  target: Storage,
): Promise<void> {
  const key = walKey(systemId, file);
  for (const source of others) {
    try {
      const claim = site.format.readWalClaim(await openingOf(site, source, key), site.config.site, file);
      await copyObject(site, epochKey(systemId, claim.epochId), source, target);
      await copyObject(site, key, source, target);
      return;
    } catch (error) {
      // a piece goes when its segment is whole; the segment is a file of its own
      if (!isJBackupError(error, "object_missing")) throw error;
    }
  }
}

const OBJECT_MAX_BYTES = 1100 * 2 ** 20;

async function copyObject(site: Site, key: string, source: Storage, target: Storage): Promise<void> {
  const bytes = await site.storage.readAll(source, key, { maxBytes: OBJECT_MAX_BYTES });
  await target.put(key, site.storage.bytesBody([bytes]), { signal: site.signal });
}
