import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import { epochKey, parseWalKey, type WalFile, walFolder, walKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { raiseAlert } from "../alert.js";
import { tooFewCopies } from "../replicate.js";
import type { Site } from "../site.js";
import { identities, sealingKeys, trustedSigners } from "../siteKeys.js";
import { storagesForReading, storagesForWriting } from "../useStorages.js";
import { currentEpoch } from "./epoch.js";
import { Lane, type WalObject } from "./lanes.js";

/** Puts WAL into every storage. */
export interface WalWriter {
  /**
   * Resolves when the content is durable in as many storages as minCopies says; slower ones go on by themselves, and what
   * one fails to take, or is too far behind to be given, stands in `missed`. The same content again is fine, other content is
   * refused and raises the alarm, also when enough other storages took it.
   */
  put(name: string, content: Buffer): Promise<void>;
  /** Files that are not needed any more; one that is on its way still goes as soon as it has arrived. */
  remove(names: string[]): Promise<void>;
  /** Pieces of a segment that an earlier run left, and whether the segment is there as a whole. */
  leftOf(segment: string): Promise<{ pieces: string[]; isWhole: boolean }>;
  /** Takes storages in that could not be used when the writer was opened and can be now. */
  rejoin(): Promise<void>;
  /** Until the slower storages have what they were given. */
  settled(): Promise<void>;
  /** Files that a storage did not take, by storage; without an error when it is slow only. */
  readonly missed: Map<string, { names: Set<string>; error: Error | null; isBack?: boolean | undefined }>;
  /** What one copy of everything that was put takes. */
  readonly storedBytes: number;
}

const EPOCH_LOOK_MS = 60_000;

export async function openWalWriter(
  site: Site,
  systemId: string,
  signal: AbortSignal = site.signal,
): Promise<WalWriter> {
  const keys = await sealingKeys(site);
  const { usable, lost } = await storagesForWriting(site);
  const lanes = usable.map((storage) => new Lane(site, storage, systemId, signal));
  const markKey = site.format.markKey(keys.signing);
  const missed: WalWriter["missed"] = new Map(
    [...lost].map(([name, error]) => [name, { names: new Set(), error }]),
  );
  const running = new Map<Promise<unknown>, string>();
  // what suits one segment suits the next
  const compressor = new site.format.FrameCompressor(site.config.compression);
  let epoch = await currentEpoch(site, keys, systemId);
  let storedBytes = 0;
  let lookedAt = site.clock.monotonicMs();

  async function seal(name: string, content: Buffer): Promise<WalObject> {
    if (site.clock.monotonicMs() - lookedAt > EPOCH_LOOK_MS) {
      epoch = await currentEpoch(site, keys, systemId);
      lookedAt = site.clock.monotonicMs();
    }
    const used = epoch;
    const kept = site.format.withoutTail(content);
    const mark = site.format.walMark(markKey, name, kept);
    const sealed = await site.format.sealObject(once(kept), {
      dataKey: used.dataKey,
      context: site.format.walContext(site.config.site, used.id, name, mark),
      compression: site.config.compression,
      compressor,
    });
    return { name, mark, epoch: used, sealed };
  }

  const miss = (storage: string, name: string | null, error: Error | null): void => {
    const known = missed.get(storage);
    const names = known?.names ?? new Set();
    if (name !== null) names.add(name);
    missed.set(storage, {
      names,
      error: error ?? known?.error ?? null,
      isBack: error === null && known?.isBack,
    });
  };

  /** Those that are behind are passed over, as long as enough others are left. */
  function lanesFor(name: string): Lane[] {
    const inTime = lanes.filter((lane) => !lane.isBehind);
    const behind = lanes.filter((lane) => lane.isBehind).toSorted((a, b) => a.waiting - b.waiting);
    const needed = behind.splice(0, Math.max(0, site.config.minCopies - inTime.length));
    for (const { storage } of behind) miss(storage.name, name, null);
    return [...inTime, ...needed];
  }

  async function putInto(lane: Lane, object: WalObject): Promise<void> {
    try {
      await lane.put(object);
      const known = missed.get(lane.storage.name);
      // it works again: what it missed can be given to it
      if (known !== undefined) missed.set(lane.storage.name, { ...known, isBack: true });
    } catch (error) {
      const isOther = isJBackupError(error, "conflict");
      miss(lane.storage.name, isOther ? null : object.name, error as Error);
      if (isOther) await alertConflict(site, object.name, error);
      throw error;
    }
  }

  /** Known from its beginning, so that whoever removes it can wait for it. */
  function tracked<Result>(name: string, work: Promise<Result>): Promise<Result> {
    running.set(work, name);
    work.catch(() => undefined).finally(() => running.delete(work)); // whoever asked for it is told
    return work;
  }

  async function put(name: string, content: Buffer): Promise<void> {
    const object = await seal(name, content);
    storedBytes += object.sealed.bytes;
    for (const [storage, error] of lost) miss(storage, name, error);
    const puts = lanesFor(name).map((lane) => tracked(name, putInto(lane, object)));
    await enough(site, puts, missed);
  }

  return {
    missed,
    get storedBytes() {
      return storedBytes;
    },
    put: (name, content) => tracked(name, put(name, content)),
    async remove(names) {
      const gone = new Set(names);
      const arriving = [...running].flatMap(([work, name]) => (gone.has(name) ? [work] : []));
      await Promise.allSettled(arriving);
      // a put that sealed meanwhile has begun to store
      await Promise.allSettled([...running].flatMap(([work, name]) => (gone.has(name) ? [work] : [])));
      for (const { names: kept } of missed.values()) for (const name of names) kept.delete(name);
      await Promise.all(
        lanes.map(async ({ storage }) => {
          for (const name of names) await storage.delete(walKey(systemId, name)).catch(() => undefined); // a piece too many harms nobody
        }),
      );
    },
    async leftOf(segment) {
      const pieces = new Set<string>();
      let isWhole = false;
      const folder = walKey(systemId, segment).slice(0, -"jbk".length);
      for (const { storage } of lanes)
        try {
          for await (const { key } of storage.list(folder)) {
            const file = parseWalKey(key)?.file;
            if (file?.kind === "piece") pieces.add(file.name);
            isWhole ||= file?.kind === "segment";
          }
        } catch (error) {
          if (!isJBackupError(error)) throw error;
          site.report.warn(
            `storage ${storage.name}: ${error.message}; pieces of an earlier run may stay there`,
          );
        }
      return { pieces: [...pieces], isWhole };
    },
    async rejoin() {
      if (lost.size === 0) return;
      const usable = await storagesForWriting(site).then(
        (now) => now.usable,
        (error: unknown) => {
          if (isJBackupError(error, "too_few_copies")) return []; // the next put says so
          throw error;
        },
      );
      for (const storage of usable)
        if (lost.delete(storage.name)) lanes.push(new Lane(site, storage, systemId, signal));
    },
    async settled() {
      while (running.size > 0) await Promise.allSettled(running.keys());
    },
  };
}

async function* once(content: Buffer): AsyncGenerator<Buffer> {
  yield content;
}

/** As soon as enough copies are durable; an object with other content under the same name stops everything. */
async function enough(site: Site, puts: Promise<void>[], missed: WalWriter["missed"]): Promise<void> {
  let stored = 0;
  await new Promise<void>((resolve, reject) => {
    let ended = 0;
    for (const put of puts)
      put
        .then(
          () => {
            stored++;
            if (stored >= site.config.minCopies) resolve();
          },
          (error: unknown) => {
            if (isJBackupError(error, "conflict")) reject(error);
          },
        )
        .finally(() => {
          if (++ended === puts.length && stored < site.config.minCopies)
            reject(
              tooFewCopies(
                site.config.minCopies,
                stored,
                new Map([...missed].flatMap(([name, { error }]) => (error === null ? [] : [[name, error]]))),
              ),
            );
        });
  });
}

async function alertConflict(site: Site, name: string, error: JBackupError): Promise<void> {
  await raiseAlert(site, {
    type: "SECURITY",
    severity: "critical",
    fingerprint: `wal_conflict:${name}`,
    message: error.message,
    hint: error.hint ?? null,
  });
}

export interface WalEntry {
  file: WalFile;
  storedBytes: number;
  modifiedAt: Date;
  storages: string[];
}

/** Reads WAL from whichever storage has it. */
export interface WalReader {
  /** The content, without the zeros at its end; null when surely no storage has it. */
  get(name: string): Promise<Buffer | null>;
  list(): Promise<WalEntry[]>;
  /** Storages that cannot be read now: what only they hold is not known. */
  readonly unread: Map<string, Error>;
}

/**
 * With `without: "lost"` the storages that cannot be read now are left out, as whoever planned with the others alone wants it;
 * else nothing is said to be missing while one of them might have it.
 */
export async function openWalReader(
  site: Site,
  systemId: string,
  { without, except = [] }: { without?: "lost"; except?: string[] } = {},
): Promise<WalReader> {
  const { usable, lost } = await storagesForReading(site, except);
  const unread = new Map(lost);
  const keyOf = walKeys(site, usable, systemId);
  const told = new Set<string>();

  const open = async (storage: Storage, name: string): Promise<Buffer> =>
    openStoredWal(
      site,
      await site.storage.readAll(storage, walKey(systemId, name), { maxBytes: OBJECT_MAX_BYTES }),
      name,
      keyOf,
    );

  return {
    unread,
    async get(name) {
      const unasked = without === "lost" ? [] : [...lost];
      const problems: [storage: string, error: JBackupError][] = unasked.map(([storage, error]) => [
        storage,
        error instanceof JBackupError ? error : new JBackupError("storage_unavailable", reasonOf(error)),
      ]);
      for (const storage of usable) {
        try {
          return await open(storage, name);
        } catch (error) {
          site.signal.throwIfAborted();
          if (!isJBackupError(error)) throw error;
          if (isJBackupError(error, "no_key", "secret_unavailable")) throw error;
          if (isJBackupError(error, "object_missing")) continue;
          problems.push([storage.name, error]);
          await alertBad(site, storage.name, name, error, told);
        }
      }
      if (problems.length === 0) return null;
      // "not there" is never concluded from a storage that could not be asked
      const why = problems.map(([storage, error]) => `${storage}: ${error.message}`).join("; ");
      throw new JBackupError(
        problems[0]?.[1].code ?? "storage_unavailable",
        `${name} cannot be read (${why})`,
        {
          hint: "jbackup storages check shows what is wrong with each storage",
        },
      );
    },
    async list() {
      const found = new Map<string, WalEntry>();
      for (const storage of usable) {
        try {
          for await (const { key, bytes, modifiedAt } of storage.list(`${walFolder(systemId)}/`)) {
            const parsed = parseWalKey(key);
            if (parsed === null) continue;
            const { file } = parsed;
            const known = found.get(file.name);
            if (known === undefined)
              found.set(file.name, { file, storedBytes: bytes, modifiedAt, storages: [storage.name] });
            else known.storages.push(storage.name);
          }
        } catch (error) {
          site.signal.throwIfAborted();
          unread.set(storage.name, error as Error);
        }
      }
      if (unread.size >= site.config.storages.length)
        throw new JBackupError(
          "storage_unavailable",
          `no storage can be listed (${[...unread].map(([name, error]) => `${name}: ${reasonOf(error)}`).join("; ")})`,
          { hint: "jbackup storages check shows what is wrong with each storage" },
        );
      return [...found.values()].sort((a, b) => (a.file.name < b.file.name ? -1 : 1));
    },
  };
}

/** The largest segment that PostgreSQL can be made with, and room for the seal. */
export const OBJECT_MAX_BYTES = 1100 * 2 ** 20;

export type WalKeyOf = (epochId: string) => Promise<Buffer>;

/** The keys that WAL is sealed with, each opened once. */
export function walKeys(site: Site, storages: Storage[], systemId: string): WalKeyOf {
  const keys = new Map<string, Promise<Buffer>>();
  return (epochId) => {
    const known = keys.get(epochId);
    if (known) return known;
    const opened = openEpoch(site, storages, systemId, epochId);
    keys.set(epochId, opened);
    return opened;
  };
}

/** A file of the WAL out of the bytes that a storage holds of it. */
export async function openStoredWal(
  site: Site,
  stored: Buffer,
  name: string,
  keyOf: WalKeyOf,
): Promise<Buffer> {
  const claim = site.format.readWalClaim(
    stored.subarray(0, site.format.OPENING_BYTES),
    site.config.site,
    name,
  );
  const context = site.format.walContext(site.config.site, claim.epochId, name, claim.mark);
  const chunks: Buffer[] = [];
  const source = site.storage.bytesBody([stored]);
  for await (const chunk of site.format.openSealed(source, await keyOf(claim.epochId), context))
    chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function openEpoch(site: Site, storages: Storage[], systemId: string, id: string): Promise<Buffer> {
  const signers = await trustedSigners(site);
  let problem: unknown = new JBackupError("object_missing", `no storage holds the WAL key ${id}`);
  for (const storage of storages) {
    try {
      const bytes = await site.storage.readAll(storage, epochKey(systemId, id), {
        maxBytes: site.format.MANIFEST_MAX_BYTES,
      });
      const { body, keys } = site.format.readManifest(bytes, {
        signers,
        expect: { site: site.config.site, backupId: id },
      });
      if (body.kind !== "wal" || body.metadata.systemId !== systemId)
        throw new JBackupError("manifest_foreign", `the WAL key ${id} belongs to another cluster`);
      return await site.format.unwrapDataKey(keys, await identities(site), {
        backupId: id,
        commitment: body.keyCommitment,
      });
    } catch (error) {
      if (!isJBackupError(error) || isJBackupError(error, "no_key", "secret_unavailable")) throw error;
      problem = isJBackupError(error, "object_missing") ? problem : error;
    }
  }
  throw problem;
}

async function alertBad(
  site: Site,
  storage: string,
  name: string,
  error: JBackupError,
  told: Set<string>,
): Promise<void> {
  if (told.has(`${storage}/${name}`)) return;
  told.add(`${storage}/${name}`);
  site.report.warn(`storage ${storage}: ${error.message}; trying the next storage`);
  if (!isJBackupError(error, "object_corrupt", "object_truncated", "container_foreign")) return;
  await raiseAlert(site, {
    type: "INTEGRITY_FAILURE",
    severity: "error",
    fingerprint: `bad_wal:${storage}:${name}`,
    message: `storage ${storage} has no good copy of ${name}: ${error.message}`,
    hint: "the other storages were used instead; look at this one with jbackup storages check",
    storage,
  });
}
