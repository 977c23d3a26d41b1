import { createHash } from "node:crypto";
import { JBackupError, reasonOf } from "../domain/errors.js";
import type { StoredObject } from "../domain/manifest.js";
import type { SealedObject } from "../format/format.js";
import type { ObjectBody, Storage } from "../storage/storage.js";

export interface FanOutSettings {
  storages: Storage[];
  /** The backup's folder, the same in every storage. */
  folder: string;
  minCopies: number;
  /** Those that never took part, and why: named when too few are left. */
  lostBefore?: ReadonlyMap<string, Error>;
  signal: AbortSignal;
  toBody: (chunks: Uint8Array[], sha256: string) => ObjectBody;
  onStored: (storage: string, bytes: number) => void;
  onLost: (storage: string, error: Error) => void;
}

export interface FanOut {
  /** Hands a finished object to every storage. Resolves as soon as the fastest one has room for more. */
  store(object: SealedObject): Promise<void>;
  /** Waits for the storages that are behind, and checks that each has every object. */
  settle(): Promise<void>;
  /** Writes the manifest everywhere: from here on the backup exists. Answers the storages that have all of it. */
  commit(manifest: Uint8Array): Promise<string[]>;
  /** Takes back what a failed run stored. */
  discard(): Promise<void>;
  failures(): Map<string, Error>;
}

/** Objects that a storage may be behind before it is fed from a finished copy instead of from memory. */
const WARM = 3;
const PARALLEL = 2;

interface Item {
  facts: StoredObject;
  /** The bytes, while memory keeps them for this storage. */
  warm: SealedObject | null;
}

interface Lane {
  storage: Storage;
  waiting: Item[];
  active: number;
  stored: Set<string>;
  lost: Error | null;
}

const backlog = (lane: Lane): number => lane.waiting.length + lane.active;

export const manifestKey = (folder: string): string => `${folder}/manifest.json`;

/** One read, several storages: each at its own pace, none delaying another. */
export function fanOut(settings: FanOutSettings): FanOut {
  const lanes: Lane[] = settings.storages.map((storage) => ({
    storage,
    waiting: [],
    active: 0,
    stored: new Set(),
    lost: null,
  }));
  const objects: StoredObject[] = [];
  // until one storage has it, memory is the only place: the lane that it was meant for may die
  const unsafe = new Map<string, SealedObject>();
  let wake: (() => void)[] = [];

  const changed = (): void => {
    const woken = wake;
    wake = [];
    for (const resolve of woken) resolve();
  };
  const nextChange = (): Promise<void> => new Promise((resolve) => wake.push(resolve));
  settings.signal.addEventListener("abort", changed, { once: true });

  const live = (): Lane[] => lanes.filter((lane) => lane.lost === null);
  const requireEnough = (): void => {
    settings.signal.throwIfAborted();
    if (live().length >= settings.minCopies) return;
    throw tooFewCopies(
      settings.minCopies,
      live().length,
      new Map([...(settings.lostBefore ?? []), ...lost()]),
    );
  };
  const lost = (): Map<string, Error> =>
    new Map(lanes.flatMap((lane) => (lane.lost === null ? [] : [[lane.storage.name, lane.lost]])));

  const giveUp = (lane: Lane, error: unknown): void => {
    if (lane.lost !== null) return;
    lane.lost = error instanceof Error ? error : new Error(String(error));
    lane.waiting = [];
    if (!settings.signal.aborted) settings.onLost(lane.storage.name, lane.lost);
  };

  /** From a copy that is already complete elsewhere; waits until there is one. */
  async function readBack(lane: Lane, facts: StoredObject): Promise<ObjectBody> {
    for (;;) {
      settings.signal.throwIfAborted();
      const kept = unsafe.get(facts.name);
      if (kept) return settings.toBody(kept.chunks, facts.sha256);
      const holders = lanes.filter((other) => other !== lane && other.stored.has(facts.name));
      if (holders.length > 0) {
        return fetchVerified(
          holders.map((holder) => holder.storage),
          `${settings.folder}/${facts.name}`,
          facts,
          settings.toBody,
          settings.signal,
        );
      }
      if (!live().some((other) => other !== lane))
        throw new JBackupError("object_missing", `no other storage holds ${facts.name}`);
      await nextChange();
    }
  }

  async function deliver(lane: Lane, item: Item): Promise<void> {
    try {
      const body = item.warm
        ? settings.toBody(item.warm.chunks, item.facts.sha256)
        : await readBack(lane, item.facts);
      if (lane.lost !== null) return;
      await lane.storage.put(`${settings.folder}/${item.facts.name}`, body, { signal: settings.signal });
      lane.stored.add(item.facts.name);
      unsafe.delete(item.facts.name);
      settings.onStored(lane.storage.name, item.facts.bytes);
    } catch (error) {
      giveUp(lane, error);
    } finally {
      lane.active--;
      changed();
      pump(lane);
    }
  }

  function pump(lane: Lane): void {
    while (lane.active < PARALLEL && lane.waiting.length > 0 && lane.lost === null) {
      const item = lane.waiting.shift() as Item;
      lane.active++;
      void deliver(lane, item);
    }
  }

  return {
    async store(object) {
      requireEnough();
      while (!live().some((lane) => backlog(lane) < WARM)) {
        await nextChange();
        requireEnough();
      }
      const facts = { name: object.name, bytes: object.bytes, sha256: object.sha256 };
      objects.push(facts);
      unsafe.set(object.name, object);
      for (const lane of live()) {
        lane.waiting.push({ facts, warm: backlog(lane) < WARM ? object : null });
        pump(lane);
      }
    },

    async settle() {
      while (live().some((lane) => backlog(lane) > 0)) {
        await nextChange();
        requireEnough();
      }
      await Promise.all(
        live().map(async (lane) => {
          try {
            await confirmStored(lane.storage, settings.folder, objects);
          } catch (error) {
            giveUp(lane, error);
          }
        }),
      );
      requireEnough();
    },

    async commit(manifest) {
      const bytes = Buffer.from(manifest);
      const body = settings.toBody([bytes], createHash("sha256").update(bytes).digest("hex"));
      await Promise.all(
        live().map(async (lane) => {
          try {
            await lane.storage.put(manifestKey(settings.folder), body, { signal: settings.signal });
          } catch (error) {
            giveUp(lane, error);
          }
        }),
      );
      try {
        requireEnough();
      } catch (error) {
        // fewer copies than promised: the backup must not half exist
        await Promise.allSettled(lanes.map((lane) => lane.storage.delete(manifestKey(settings.folder))));
        throw error;
      }
      return live().map((lane) => lane.storage.name);
    },

    async discard() {
      for (const lane of lanes) lane.waiting = [];
      while (lanes.some((lane) => lane.active > 0)) await nextChange(); // what is on its way would arrive later
      await Promise.allSettled(
        lanes.map(async (lane) => {
          for (const name of lane.stored) await lane.storage.delete(`${settings.folder}/${name}`);
        }),
      );
    },

    failures: lost,
  };
}

export function tooFewCopies(minCopies: number, reached: number, lost: Map<string, Error>): JBackupError {
  const why = [...lost].map(([name, error]) => `${name}: ${reasonOf(error)}`).join("; ");
  return new JBackupError(
    "too_few_copies",
    `only ${reached} of the ${minCopies} copies that minCopies asks for can be stored (${why})`,
    { hint: "jbackup storages check shows what is wrong with each storage" },
  );
}

/** "Stored" is believed only when the storage itself lists every object at its right size. */
async function confirmStored(storage: Storage, folder: string, objects: StoredObject[]): Promise<void> {
  const listed = new Map<string, number>();
  for await (const facts of storage.list(`${folder}/`)) listed.set(facts.key, facts.bytes);
  for (const { name, bytes } of objects) {
    const found = listed.get(`${folder}/${name}`);
    if (found === bytes) continue;
    const what = found === undefined ? "is not there" : `has ${found} bytes instead of ${bytes}`;
    throw new JBackupError(
      "storage_unavailable",
      `${storage.name} acknowledged ${folder}/${name}, but it ${what}`,
    );
  }
}

/** One whole object from the first storage whose copy has the right digest. */
export async function fetchVerified(
  storages: Storage[],
  key: string,
  facts: StoredObject,
  toBody: FanOutSettings["toBody"],
  signal: AbortSignal,
  onBad: (storage: Storage, error: Error) => Promise<void> = async () => undefined,
): Promise<ObjectBody> {
  const problems: string[] = [];
  for (const storage of storages) {
    try {
      return toBody(await fetchFrom(storage, key, facts, signal), facts.sha256);
    } catch (error) {
      signal.throwIfAborted();
      await onBad(storage, error as Error);
      problems.push(`${storage.name}: ${reasonOf(error)}`);
    }
  }
  throw new JBackupError("object_corrupt", `no storage has a good copy of ${key} (${problems.join("; ")})`, {
    hint: "choose another backup from jbackup list",
  });
}

async function fetchFrom(
  storage: Storage,
  key: string,
  facts: StoredObject,
  signal: AbortSignal,
): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of storage.get(key, { signal })) {
    bytes += chunk.length;
    if (bytes > facts.bytes) break;
    hash.update(chunk);
    chunks.push(chunk);
  }
  if (bytes !== facts.bytes)
    throw new JBackupError(
      "object_truncated",
      `${key} has ${bytes > facts.bytes ? "more" : bytes} bytes instead of ${facts.bytes}`,
    );
  if (hash.digest("hex") !== facts.sha256)
    throw new JBackupError("object_corrupt", `${key} is damaged: its SHA-256 is not the one in the manifest`);
  return chunks;
}
