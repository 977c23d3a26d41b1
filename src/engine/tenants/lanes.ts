import { isJBackupError, reasonOf } from "../../domain/errors.js";
import type { SealedObject } from "../../format/format.js";
import type { Storage } from "../../storage/storage.js";
import { manifestKey, tooFewCopies } from "../replicate.js";
import type { Site } from "../site.js";
import { inParallel, requireShown } from "./shown.js";

/** A small backup, ready to be stored: at most one object, and the manifest that makes it exist. */
export interface SmallBackup<Facts> {
  facts: Facts;
  folder: string;
  object: SealedObject | null;
  manifest: Buffer;
}

export interface Lanes<Facts> {
  /** Resolves as soon as enough storages have room for more. */
  store(backup: SmallBackup<Facts>): Promise<void>;
  /** Waits for all of them. */
  finish(): Promise<void>;
  lost(): Map<string, Error>;
}

/** Told for every backup once each storage has it or never will. */
export type OnStored<Facts> = (facts: Facts, holding: string[], error: Error | null) => void;

/** Puts at one time: a disk gains little from more, a network much. */
const PARALLEL = { local: 4, s3: 12, b2: 12 };
/** Over a network whether each object is there is asked for many at once. More groups than one keep it busy meanwhile. */
const GROUP = 64;
const GROUP_BYTES = 8 * 2 ** 20;
const GROUPS = 2;
/** A storage may be this far behind the others; beyond it, what it lacks is copied from them at the end. */
const BEHIND_BYTES = 48 * 2 ** 20;
/** Enough to keep every storage busy. */
const ROOM_BYTES = 16 * 2 ** 20;
const ROOM_BACKUPS = 128;
const LIST_BYTES = 4096;

interface Lane<Facts> {
  storage: Storage;
  waiting: Item<Facts>[];
  waitingBytes: number;
  /** Backups, or groups of them, that are on their way. */
  active: number;
  lost: Error | null;
}

interface Item<Facts> {
  backup: SmallBackup<Facts>;
  bytes: number;
  open: number;
  holding: string[];
  /** What is wrong with the backup itself, wherever it is put. */
  error: Error | null;
}

/** No fault of the storage. */
const isOfItem = (error: unknown): error is Error => isJBackupError(error, "bug", "usage");

/** Many small backups into several storages, each at its own pace. */
export function openLanes<Facts>(site: Site, storages: Storage[], onStored: OnStored<Facts>): Lanes<Facts> {
  const { minCopies } = site.config;
  const lanes: Lane<Facts>[] = storages.map((storage) => ({
    storage,
    waiting: [],
    waitingBytes: 0,
    active: 0,
    lost: null,
  }));
  let wake: (() => void)[] = [];
  const changed = (): void => {
    const woken = wake;
    wake = [];
    for (const resolve of woken) resolve();
  };
  const nextChange = (): Promise<void> => new Promise((resolve) => wake.push(resolve));
  site.signal.addEventListener("abort", changed, { once: true });
  let isEnding = false;

  const lost = (): Map<string, Error> =>
    new Map(lanes.flatMap((lane) => (lane.lost === null ? [] : [[lane.storage.name, lane.lost]])));
  const requireEnough = (): void => {
    site.signal.throwIfAborted();
    const living = lanes.filter((lane) => lane.lost === null).length;
    if (living < minCopies) throw tooFewCopies(minCopies, living, lost());
  };
  const hasRoom = (lane: Lane<Facts>): boolean =>
    lane.lost === null && lane.waitingBytes < ROOM_BYTES && lane.waiting.length < ROOM_BACKUPS;

  /** One storage is done with a backup; the last one settles it. */
  async function settle(item: Item<Facts>, storage: Storage, isHeld: boolean): Promise<void> {
    if (isHeld) item.holding.push(storage.name);
    item.open--;
    if (item.open > 0) return;
    if (item.holding.length >= minCopies) return onStored(item.backup.facts, item.holding, null);
    // fewer copies than promised: it must not half exist
    const held = storages.filter(({ name }) => item.holding.includes(name));
    await Promise.allSettled(held.map((one) => one.delete(manifestKey(item.backup.folder))));
    onStored(item.backup.facts, [], item.error ?? tooFewCopies(minCopies, item.holding.length, lost()));
  }

  /** After a failure a storage gets nothing more. */
  async function lose(lane: Lane<Facts>, error: Error): Promise<void> {
    if (lane.lost === null) {
      lane.lost = error;
      if (!site.signal.aborted)
        site.report.warn(`storage ${lane.storage.name} is out of this backup: ${reasonOf(error)}`);
    }
    const left = lane.waiting.splice(0);
    lane.waitingBytes = 0;
    for (const other of left) await settle(other, lane.storage, false);
  }

  async function deliver(lane: Lane<Facts>, item: Item<Facts>): Promise<void> {
    let isHeld = false;
    try {
      await putObject(site, lane.storage, item.backup);
      await putManifest(site, lane.storage, item.backup);
      isHeld = true;
    } catch (error) {
      if (isOfItem(error)) item.error = error;
      else await lose(lane, error as Error);
    }
    await settle(item, lane.storage, isHeld);
    lane.active--;
    pump(lane);
    changed();
  }

  async function orItsOwn(item: Item<Facts>, put: () => Promise<void>): Promise<void> {
    try {
      await put();
    } catch (error) {
      if (!isOfItem(error)) throw error;
      item.error = error;
    }
  }

  /** All objects, one look at all of them, and only then the manifests. */
  async function deliverGroup(lane: Lane<Facts>, group: Item<Facts>[]): Promise<void> {
    const { storage } = lane;
    const held = new Set<Item<Facts>>();
    const acknowledged: Item<Facts>[] = [];
    try {
      const most = PARALLEL[storage.kind] / GROUPS;
      const kept: Item<Facts>[] = [];
      await inParallel(most, group, (item) =>
        orItsOwn(item, async () => {
          await putObject(site, storage, item.backup, true);
          kept.push(item);
        }),
      );
      await requireShown(
        storage,
        kept.flatMap(({ backup }) => objectsOf(backup)),
      );
      await inParallel(most, kept, (item) =>
        orItsOwn(item, async () => {
          await putManifest(site, storage, item.backup, true);
          acknowledged.push(item);
        }),
      );
      await requireShown(
        storage,
        acknowledged.map(({ backup }) => manifestOf(backup)),
      );
      for (const item of acknowledged) held.add(item);
    } catch (error) {
      await lose(lane, error as Error);
      for (const item of await shownOf(storage, acknowledged)) held.add(item);
    }
    for (const item of group) await settle(item, storage, held.has(item));
    lane.active--;
    pump(lane);
    changed();
  }

  /** A manifest that was stored all the same makes a backup; on an abort the next run looks what became of it. */
  async function shownOf(storage: Storage, acknowledged: Item<Facts>[]): Promise<Item<Facts>[]> {
    const shown: Item<Facts>[] = [];
    try {
      for (const item of acknowledged) {
        if (site.signal.aborted) break;
        const { key, bytes } = manifestOf(item.backup);
        if ((await storage.stat(key))?.bytes === bytes) shown.push(item);
      }
    } catch {
      // lost for good: it counts as having none of the others, and is healed when it is back
    }
    return shown;
  }

  function pump(lane: Lane<Facts>): void {
    if (lane.storage.kind !== "local") pumpGroups(lane);
    else pumpSingly(lane);
  }

  function pumpSingly(lane: Lane<Facts>): void {
    while (lane.active < PARALLEL.local && lane.waiting.length > 0 && lane.lost === null) {
      const [item] = take(lane, 1);
      if (item === undefined) return;
      lane.active++;
      void deliver(lane, item);
    }
  }

  /** A part of a group goes only when there is nothing to wait for. */
  function pumpGroups(lane: Lane<Facts>): void {
    while (lane.active < GROUPS && lane.waiting.length > 0 && lane.lost === null) {
      if (lane.waiting.length < GROUP && lane.active > 0 && !isEnding) return;
      const group = take(lane, GROUP);
      lane.active++;
      void deliverGroup(lane, group);
    }
  }

  function take(lane: Lane<Facts>, most: number): Item<Facts>[] {
    let [many, bytes] = [0, 0];
    while (many < Math.min(most, lane.waiting.length) && bytes < GROUP_BYTES)
      bytes += lane.waiting[many++]?.bytes ?? 0;
    lane.waitingBytes -= bytes;
    return lane.waiting.splice(0, many);
  }

  return {
    async store(backup) {
      requireEnough();
      while (lanes.filter(hasRoom).length < minCopies) {
        await nextChange();
        requireEnough();
      }
      const bytes = (backup.object?.bytes ?? 0) + backup.manifest.length + LIST_BYTES;
      const takers = lanes.filter(
        ({ lost: error, waitingBytes }) => error === null && waitingBytes < BEHIND_BYTES,
      );
      const item = { backup, bytes, open: takers.length, holding: [], error: null };
      for (const lane of takers) {
        lane.waiting.push(item);
        lane.waitingBytes += bytes;
        pump(lane);
      }
    },
    async finish() {
      isEnding = true;
      for (const lane of lanes) pump(lane);
      while (lanes.some(({ waiting, active }) => waiting.length + active > 0)) await nextChange();
      requireEnough();
    },
    lost,
  };
}

const objectsOf = <Facts>({ folder, object }: SmallBackup<Facts>): { key: string; bytes: number }[] =>
  object === null ? [] : [{ key: `${folder}/${object.name}`, bytes: object.bytes }];

const manifestOf = <Facts>({ folder, manifest }: SmallBackup<Facts>): { key: string; bytes: number } => ({
  key: manifestKey(folder),
  bytes: manifest.length,
});

/** Before its manifest. A put ends only when the storage shows what it took, unless the caller looks for many at once. */
async function putObject<Facts>(
  site: Site,
  storage: Storage,
  { folder, object }: SmallBackup<Facts>,
  isListedLater = false,
): Promise<void> {
  if (object === null) return;
  const body = site.storage.bytesBody(object.chunks, object.sha256);
  const options = { signal: site.signal, isFresh: true, isListedLater };
  await storage.put(`${folder}/${object.name}`, body, options);
  site.step("tenant-object-stored");
}

async function putManifest<Facts>(
  site: Site,
  storage: Storage,
  { folder, manifest }: SmallBackup<Facts>,
  isListedLater = false,
): Promise<void> {
  const options = { signal: site.signal, isFresh: true, isListedLater };
  await storage.put(manifestKey(folder), site.storage.bytesBody([manifest]), options);
  site.step("tenant-manifest-stored");
}
