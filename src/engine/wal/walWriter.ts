import { isJBackupError, type JBackupError } from "../../domain/errors.js";
import { parseWalKey, walKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { raiseAlert } from "../alert.js";
import { tooFewCopies } from "../replicate.js";
import type { Site } from "../site.js";
import { sealingKeys } from "../siteKeys.js";
import { storagesForWriting } from "../useStorages.js";
import { currentEpoch } from "./epoch.js";
import { Lane, type WalObject } from "./lanes.js";
import { walKeys } from "./sealedWal.js";

/** Puts WAL into every storage. */
export interface WalWriter {
  /**
   * Resolves when the content is durable in as many storages as minCopies says; slower ones go on by themselves, and what
   * one fails to take, or is too far behind to be given, stands in `missed`. The same content again is fine, other content is
   * refused and raises the alarm, also when enough other storages took it. What nobody of us sealed is replaced, and told.
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
  const usedStorages = [...usable];
  const keyOf = walKeys(site, usedStorages, systemId);
  const laneTo = (storage: Storage): Lane => new Lane(site, storage, systemId, keyOf, signal);
  const lanes = usable.map(laneTo);
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
        if (lost.delete(storage.name)) {
          usedStorages.push(storage);
          lanes.push(laneTo(storage));
        }
    },
    async settled() {
      while (running.size > 0) await Promise.allSettled(running.keys());
    },
  };
}

async function* once(content: Buffer): AsyncGenerator<Buffer> {
  yield content;
}

/**
 * As soon as enough copies are durable. An object that is proved to have other content under the same name stops everything; one
 * that only says so of itself counts as a copy that was not taken.
 */
async function enough(site: Site, puts: Promise<void>[], missed: WalWriter["missed"]): Promise<void> {
  let stored = 0;
  let claimed: JBackupError | null = null;
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
            if (!isJBackupError(error, "conflict")) return;
            if (error.details?.isProved === true) reject(error);
            claimed ??= error;
          },
        )
        .finally(() => {
          if (++ended === puts.length && stored < site.config.minCopies)
            reject(
              claimed ??
                tooFewCopies(
                  site.config.minCopies,
                  stored,
                  new Map(
                    [...missed].flatMap(([name, { error }]) => (error === null ? [] : [[name, error]])),
                  ),
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
