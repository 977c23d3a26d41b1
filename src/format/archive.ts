import { createHash } from "node:crypto";
import type { Compression } from "../domain/config.js";
import { JBackupError } from "../domain/errors.js";
import type { Contents, Entry, Segment, StoredObject } from "../domain/manifest.js";
import { FrameCompressor } from "./compress.js";
import { CONTENTS_NAME, contentsContext, packContext, packName } from "./layout.js";
import { isEntryName } from "./names.js";
import { SealedBuffer, type SealedObject, Sealer, sealObject } from "./seal.js";

export interface ArchiveOptions {
  site: string;
  backupId: string;
  tenantId: string | null;
  dataKey: Buffer;
  compression: Compression;
  /** Sealed bytes at which a pack is closed; 16 MiB unless told otherwise. */
  packBytes?: number;
  frameBytes?: number;
  /** Makes the object durable. The whole object is in memory, so it may be tried again. Called for at most two packs at a time. */
  store: (object: SealedObject) => Promise<void>;
}

export interface FinishedArchive {
  objects: StoredObject[];
  entries: Entry[];
  rawBytes: number;
  storedBytes: number;
}

/** Lays bytes one after another over packs: named streams, or blocks that something else keeps the account of. */
export interface Archive {
  /**
   * Reads the input to its end and says where it went. Calls wait for each other: entries do not mix. When the input
   * throws, so does this, with the same error; the archive stays usable and the name is free again.
   */
  addEntry(name: string, input: AsyncIterable<Uint8Array>): Promise<Entry>;
  /** Lays bytes that belong to no entry, and says where they went. Calls run in order; the memory is free when it resolves. */
  addBytes(bytes: Uint8Array): Promise<Segment[]>;
  /** Facts for the sealed contents; later ones win. */
  addContents(detail: Record<string, unknown>): void;
  /** Closes the last pack, waits until every pack is stored, then seals and stores the contents as the last object. */
  finish(detail?: Record<string, unknown>): Promise<FinishedArchive>;
}

const PACK_BYTES = 16 * 2 ** 20;
const PACKS_WAITING = 2;

export function createArchive(options: ArchiveOptions): Archive {
  const packs = new PackWriter(options);
  const entries: Entry[] = [];
  const names = new Set<string>();
  const detail: Record<string, unknown> = {};
  let turn: Promise<unknown> = Promise.resolve();
  let looseBytes = 0;
  let isFinished = false;

  const inTurn = <T>(task: () => Promise<T>): Promise<T> => {
    const result = turn.then(task);
    turn = result.catch(() => undefined); // the next in line does not fail for this one's error
    return result;
  };

  async function lay(name: string, input: AsyncIterable<Uint8Array>): Promise<Entry> {
    const hash = createHash("sha256");
    const segments: Segment[] = [];
    let bytes = 0;
    for await (const chunk of input) {
      hash.update(chunk);
      bytes += chunk.length;
      await packs.write(chunk, segments);
    }
    return { name, bytes, sha256: hash.digest("hex"), segments };
  }

  return {
    async addEntry(name, input) {
      if (isFinished) throw new JBackupError("bug", `entry ${name} was added to a finished archive`);
      refuseName(name, names);
      names.add(name);
      try {
        const entry = await inTurn(() => lay(name, input));
        entries.push(entry);
        return entry;
      } catch (error) {
        names.delete(name);
        throw error;
      }
    },
    async addBytes(bytes) {
      if (isFinished) throw new JBackupError("bug", "bytes were added to a finished archive");
      return inTurn(async () => {
        const segments: Segment[] = [];
        await packs.write(bytes, segments);
        looseBytes += bytes.length;
        return segments;
      });
    },
    addContents(more) {
      Object.assign(detail, more);
    },
    async finish(more = {}) {
      if (isFinished) throw new JBackupError("bug", "an archive was finished twice");
      isFinished = true;
      return inTurn(async () => {
        const objects = await packs.finish();
        const contents: Contents = { format: 1, entries, detail: { ...detail, ...more } };
        objects.push(await storeContents(contents, options));
        const rawBytes = entries.reduce((sum, entry) => sum + entry.bytes, looseBytes);
        const storedBytes = objects.reduce((sum, object) => sum + object.bytes, 0);
        return { objects, entries, rawBytes, storedBytes };
      });
    },
  };
}

/** Fills one pack after another; finished packs are stored while the next one fills. */
class PackWriter {
  readonly #options: ArchiveOptions;
  readonly #packBytes: number;
  readonly #objects: StoredObject[] = [];
  readonly #waiting = new Set<Promise<void>>();
  readonly #compressor: FrameCompressor;
  #number = 0;
  #open: { name: string; sealer: Sealer; sealed: SealedBuffer } | undefined;
  #failure: { error: unknown } | undefined;

  constructor(options: ArchiveOptions) {
    this.#options = options;
    this.#packBytes = options.packBytes ?? PACK_BYTES;
    this.#compressor = new FrameCompressor(options.compression);
  }

  async write(chunk: Uint8Array, segments: Segment[]): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      this.#throwFailure();
      const pack = await this.#packWithRoom();
      // frame by frame, because only between two frames may a pack end
      const part = chunk.subarray(at, at + (pack.sealer.frameRoom || pack.sealer.frameBytes));
      extend(segments, { object: pack.name, offset: pack.sealer.rawBytes, bytes: part.length });
      await pack.sealer.write(part);
      at += part.length;
    }
  }

  async finish(): Promise<StoredObject[]> {
    await this.#close();
    await Promise.all(this.#waiting);
    this.#throwFailure();
    return this.#objects;
  }

  async #packWithRoom() {
    const { sealer } = this.#open ?? {};
    if (sealer?.frameRoom === 0 && sealer.sealedBytesExpected >= this.#packBytes) await this.#close();
    this.#open ??= this.#next();
    return this.#open;
  }

  #next() {
    const name = packName(++this.#number);
    const sealed = new SealedBuffer();
    const { dataKey, compression, frameBytes } = this.#options;
    const context = packContext(this.#options, name);
    const sealer = new Sealer(
      { dataKey, context, compression, compressor: this.#compressor, ...(frameBytes && { frameBytes }) },
      sealed.emit,
    );
    return { name, sealer, sealed };
  }

  async #close(): Promise<void> {
    const pack = this.#open;
    if (pack === undefined) return;
    this.#open = undefined;
    while (this.#waiting.size >= PACKS_WAITING) await Promise.race(this.#waiting);
    const slot = this.#objects.length;
    this.#objects.push({ name: pack.name, bytes: 0, sha256: "" });
    const stored = (async () => {
      await pack.sealer.end();
      const object = pack.sealed.finish(pack.name);
      this.#objects[slot] = factsOf(object);
      await this.#options.store(object);
    })()
      .catch((error: unknown) => {
        this.#failure ??= { error }; // thrown by the next write or by finish
      })
      .finally(() => this.#waiting.delete(stored));
    this.#waiting.add(stored);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

async function storeContents(contents: Contents, options: ArchiveOptions): Promise<StoredObject> {
  const { dataKey, compression } = options;
  const object = await sealObject(contentsText(contents), {
    dataKey,
    compression,
    context: contentsContext(options),
  });
  await options.store(object);
  return factsOf(object);
}

async function* contentsText(contents: Contents): AsyncGenerator<Uint8Array> {
  yield Buffer.from(JSON.stringify(contents));
}

const factsOf = ({ name, bytes, sha256 }: SealedObject): StoredObject => ({ name, bytes, sha256 });

/** Neighbouring parts of one entry in one pack are one segment. */
function extend(segments: Segment[], part: Segment): void {
  const last = segments.at(-1);
  if (last?.object === part.object && last.offset + last.bytes === part.offset) last.bytes += part.bytes;
  else segments.push(part);
}

function refuseName(name: string, taken: Set<string>): void {
  if (!isEntryName(name))
    throw new JBackupError("failed", `an entry cannot be named ${JSON.stringify(name)}`, {
      hint: "Entry names are relative paths without `..` or control characters: rename the file, or exclude it.",
    });
  if (taken.has(name))
    throw new JBackupError("bug", `two entries of one backup are named ${name}`, {
      hint: `${CONTENTS_NAME} lists every entry once: report this with the command you ran.`,
    });
}
