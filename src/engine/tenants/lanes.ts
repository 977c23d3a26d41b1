import { reasonOf } from "../../domain/errors.js";
import type { SealedObject } from "../../format/format.js";
import type { Storage } from "../../storage/storage.js";
import { manifestKey, tooFewCopies } from "../replicate.js";
import type { Site } from "../site.js";

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
/** A storage may be this far behind the others; beyond it, what it lacks is copied from them at the end. */
const BEHIND_BYTES = 48 * 2 ** 20;
/** Enough to keep every storage busy. */
const ROOM_BYTES = 16 * 2 ** 20;
const ROOM_BACKUPS = 64;
const LIST_BYTES = 4096;

interface Lane<Facts> {
  storage: Storage;
  waiting: Item<Facts>[];
  waitingBytes: number;
  active: number;
  lost: Error | null;
}

interface Item<Facts> {
  backup: SmallBackup<Facts>;
  bytes: number;
  open: number;
  holding: string[];
}

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
    onStored(item.backup.facts, [], tooFewCopies(minCopies, item.holding.length, lost()));
  }

  async function deliver(lane: Lane<Facts>, item: Item<Facts>): Promise<void> {
    let isHeld = false;
    try {
      await putWhole(site, lane.storage, item.backup);
      isHeld = true;
    } catch (error) {
      if (lane.lost === null) {
        lane.lost = error as Error;
        if (!site.signal.aborted)
          site.report.warn(`storage ${lane.storage.name} is out of this backup: ${reasonOf(error)}`);
      }
      const left = lane.waiting.splice(0);
      lane.waitingBytes = 0;
      for (const other of left) await settle(other, lane.storage, false);
    }
    await settle(item, lane.storage, isHeld);
    lane.active--;
    pump(lane);
    changed();
  }

  function pump(lane: Lane<Facts>): void {
    while (lane.active < PARALLEL[lane.storage.kind] && lane.waiting.length > 0 && lane.lost === null) {
      const item = lane.waiting.shift() as Item<Facts>;
      lane.waitingBytes -= item.bytes;
      lane.active++;
      void deliver(lane, item);
    }
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
      const item = { backup, bytes, open: takers.length, holding: [] };
      for (const lane of takers) {
        lane.waiting.push(item);
        lane.waitingBytes += bytes;
        pump(lane);
      }
    },
    async finish() {
      while (lanes.some(({ waiting, active }) => waiting.length + active > 0)) await nextChange();
      requireEnough();
    },
    lost,
  };
}

/** The object first, the manifest last. A put ends only when the storage shows what it took. */
async function putWhole<Facts>(site: Site, storage: Storage, backup: SmallBackup<Facts>): Promise<void> {
  const { folder, object, manifest } = backup;
  const options = { signal: site.signal, isFresh: true };
  if (object !== null) {
    const body = site.storage.bytesBody(object.chunks, object.sha256);
    await storage.put(`${folder}/${object.name}`, body, options);
    site.step("tenant-object-stored");
  }
  await storage.put(manifestKey(folder), site.storage.bytesBody([manifest]), options);
  site.step("tenant-manifest-stored");
}
