import { isJBackupError } from "../../domain/errors.js";
import { epochKey, walKey } from "../../domain/wal.js";
import type { SealedObject } from "../../format/format.js";
import type { Storage } from "../../storage/storage.js";
import type { Site } from "../site.js";
import type { Epoch } from "./epoch.js";
import type { WalKeyOf } from "./sealedWal.js";
import { alertPlanted, otherContent, whatIsThere } from "./standing.js";

export interface WalObject {
  name: string;
  mark: string;
  epoch: Epoch;
  sealed: SealedObject;
}

/** What may wait for a storage before it is passed over: it gets the rest later, from another storage. */
const BEHIND_MOST = { objects: 64, bytes: 48 * 2 ** 20 };
const PARALLEL = 4;

/** One storage's own pace: others never wait for it. */
export class Lane {
  readonly storage: Storage;
  readonly #site: Site;
  readonly #systemId: string;
  readonly #signal: AbortSignal;
  readonly #keyOf: WalKeyOf;
  readonly #epochs = new Map<string, Promise<void>>();
  #waiting = 0;
  #waitingBytes = 0;
  #active = 0;
  #wake: (() => void)[] = [];

  constructor(site: Site, storage: Storage, systemId: string, keyOf: WalKeyOf, signal: AbortSignal) {
    this.#keyOf = keyOf;
    this.#site = site;
    this.#signal = signal;
    this.storage = storage;
    this.#systemId = systemId;
  }

  get isBehind(): boolean {
    return this.#waiting >= BEHIND_MOST.objects || this.#waitingBytes >= BEHIND_MOST.bytes;
  }

  get waiting(): number {
    return this.#waiting;
  }

  async put(object: WalObject): Promise<void> {
    this.#waiting++;
    this.#waitingBytes += object.sealed.bytes;
    try {
      while (this.#active >= PARALLEL) await new Promise<void>((resolve) => this.#wake.push(resolve));
      this.#active++;
      try {
        await this.#epochReady(object.epoch);
        await this.#putOnce(object);
      } finally {
        this.#active--;
        this.#wake.shift()?.();
      }
    } finally {
      this.#waiting--;
      this.#waitingBytes -= object.sealed.bytes;
    }
  }

  /** Nobody could open an object whose key is not there. */
  #epochReady(epoch: Epoch): Promise<void> {
    const known = this.#epochs.get(epoch.id);
    if (known) return known;
    const stored = this.storage
      .put(epochKey(this.#systemId, epoch.id), this.#site.storage.bytesBody([epoch.manifest]), {
        signal: this.#signal,
      })
      .catch((error: unknown) => {
        // wrapped anew by a rotation of keys: the same key under the same signed id
        if (!isJBackupError(error, "object_exists")) throw error;
      });
    this.#epochs.set(epoch.id, stored);
    stored.catch(() => this.#epochs.delete(epoch.id)); // tried again with the next object
    return stored;
  }

  async #putOnce(object: WalObject): Promise<void> {
    const { name, sealed } = object;
    const key = walKey(this.#systemId, name);
    const put = (replace: boolean): Promise<void> =>
      this.storage.put(key, this.#site.storage.bytesBody(sealed.chunks, sealed.sha256), {
        replace,
        signal: this.#signal,
      });
    try {
      await put(false);
    } catch (error) {
      if (!isJBackupError(error, "object_exists")) throw error;
      // stored before, by another process or an earlier try: the same content is fine, any other never is
      const there = await whatIsThere(this.#site, this.storage, key, object, this.#keyOf);
      if (there.what === "other") throw otherContent(this.storage.name, name, key, there.isProved);
      if (there.what === "gone") await put(false); // a piece of a killed run, which was cleared away meanwhile
      if (there.what !== "planted") return;
      await put(true);
      await alertPlanted(this.#site, this.storage.name, name, there.why);
    }
  }
}
