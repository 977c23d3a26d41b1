import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { epochKey, walKey } from "../../domain/wal.js";
import type { SealedObject, WalClaim } from "../../format/format.js";
import type { Storage } from "../../storage/storage.js";
import type { Site } from "../site.js";
import type { Epoch } from "./epoch.js";

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
  readonly #epochs = new Map<string, Promise<void>>();
  #waiting = 0;
  #waitingBytes = 0;
  #active = 0;
  #wake: (() => void)[] = [];

  constructor(site: Site, storage: Storage, systemId: string, signal: AbortSignal) {
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

  async #putOnce({ name, mark, sealed }: WalObject): Promise<void> {
    const key = walKey(this.#systemId, name);
    const put = (): Promise<void> =>
      this.storage.put(key, this.#site.storage.bytesBody(sealed.chunks, sealed.sha256), {
        signal: this.#signal,
      });
    try {
      await put();
    } catch (error) {
      if (!isJBackupError(error, "object_exists")) throw error;
      try {
        await this.#refuseOther(name, mark, key);
      } catch (gone) {
        if (!isJBackupError(gone, "object_missing")) throw gone;
        await put(); // a piece of a killed run, which was cleared away meanwhile
      }
    }
  }

  /** It was stored before, by another process or an earlier try. The same content is fine; any other never is. */
  async #refuseOther(name: string, mark: string, key: string): Promise<void> {
    const claim = await claimOf(this.#site, this.storage, key, name);
    if (claim.mark !== mark) throw otherContent(this.storage.name, name, key);
  }
}

export const otherContent = (storage: string, name: string, key: string): JBackupError =>
  new JBackupError("conflict", `storage ${storage} holds ${name} with other content`, {
    hint: "two clusters archive into one place, or one went back in time without a new timeline: give each a site of its own",
    details: { storage, key },
  });

/** What a stored object says of itself. */
export const claimOf = async (site: Site, storage: Storage, key: string, name: string): Promise<WalClaim> =>
  site.format.readWalClaim(await openingOf(site, storage, key), site.config.site, name);

/** The beginning of an object; short ones are shorter. */
async function openingOf(site: Site, storage: Storage, key: string): Promise<Buffer> {
  const facts = await storage.stat(key);
  const end = Math.min(facts?.bytes ?? 0, site.format.OPENING_BYTES);
  const chunks: Uint8Array[] = [];
  for await (const chunk of storage.get(key, { range: { start: 0, end }, signal: site.signal }))
    chunks.push(chunk);
  return Buffer.concat(chunks);
}
