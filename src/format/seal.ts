import { createHash, type Hash } from "node:crypto";
import type { Compression } from "../domain/config.js";
import { JBackupError } from "../domain/errors.js";
import { FrameCompressor, type PackedFrame } from "./compress.js";
import { FRAME_OVERHEAD_BYTES, type FrameKind, sealFrame } from "./frame.js";
import { FRAMES_MAX, writeIndex, writeTrailer } from "./frameIndex.js";
import { FRAME_MAX_BYTES, newHeader, objectKeys, type SealContext, sealHeader } from "./header.js";

export interface SealOptions {
  dataKey: Buffer;
  context: SealContext;
  compression: Compression;
  /** Input bytes per frame; 1 MiB unless told otherwise. */
  frameBytes?: number;
  /** Shared by the objects of one archive, which remembers what suits its content. */
  compressor?: FrameCompressor;
}

/** A whole sealed object in memory, in the pieces it was made in. */
export interface SealedObject {
  name: string;
  bytes: number;
  sha256: string;
  chunks: Buffer[];
}

/** Frames that are being compressed at one time: enough for libuv's four threads while the oldest is sealed. */
const FRAMES_AHEAD = 6;

/** Frames to fill again, by whichever object comes next: fresh megabytes cost page faults and collections of garbage. */
const spare: Buffer[] = [];
const SPARE_MOST = 2 * FRAMES_AHEAD;

function takeFrame(bytes: number): Buffer {
  const at = spare.findIndex((frame) => frame.length === bytes);
  return at === -1 ? Buffer.allocUnsafeSlow(bytes) : (spare.splice(at, 1)[0] as Buffer);
}

/**
 * Makes one container. Frames are compressed side by side and sealed in order; a full frame waits until it is
 * known whether more follows, because only the last one carries the last mark.
 */
export class Sealer {
  rawBytes = 0;
  sealedBytes = 0;
  readonly frameBytes: number;
  readonly #key: Buffer;
  readonly #compressor: FrameCompressor;
  readonly #emit: (bytes: Buffer) => void;
  readonly #ahead: { frame: Buffer; packed: Promise<PackedFrame> }[] = [];
  readonly #sizes: number[] = [];
  #frame: Buffer;
  #filled = 0;
  #sealedRawBytes = 0;

  constructor(options: SealOptions, emit: (bytes: Buffer) => void) {
    this.frameBytes = options.frameBytes ?? FRAME_MAX_BYTES;
    this.#compressor = options.compressor ?? new FrameCompressor(options.compression);
    this.#emit = emit;
    const header = newHeader(options.compression.codec, this.frameBytes, options.context);
    const keys = objectKeys(options.dataKey, header);
    this.#key = keys.key;
    this.#frame = takeFrame(this.frameBytes);
    this.#put(sealHeader(header, keys));
  }

  /** Bytes that still fit into the current frame; 0 when it is full. */
  get frameRoom(): number {
    return this.frameBytes - this.#filled;
  }

  /** What the object would come to if it ended here and the frames ahead shrink like those before; never a matter of timing. */
  get sealedBytesExpected(): number {
    const ratio = this.#sealedRawBytes === 0 ? 1 : this.sealedBytes / this.#sealedRawBytes;
    return this.sealedBytes + ratio * (this.rawBytes - this.#sealedRawBytes);
  }

  /** Copies the chunk: the caller may reuse its memory. Resolves late when compression cannot keep up. */
  async write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      if (this.#filled === this.frameBytes) await this.#nextFrame();
      const part = chunk.subarray(at, at + this.frameRoom);
      this.#frame.set(part, this.#filled);
      this.#filled += part.length;
      this.rawBytes += part.length;
      at += part.length;
    }
  }

  async end(): Promise<void> {
    this.#compress();
    while (this.#ahead.length > 1) await this.#sealOldest("middle");
    await this.#sealOldest("last");
    const indexOffset = this.sealedBytes;
    const index = writeIndex(this.rawBytes, this.#sizes);
    this.#seal("index", { bytes: index, rawBytes: index.length, isCompressed: false }, this.#sizes.length);
    this.#put(writeTrailer(indexOffset));
  }

  async #nextFrame(): Promise<void> {
    this.#compress();
    if (this.#ahead.length > FRAMES_AHEAD) await this.#sealOldest("middle");
    this.#frame = takeFrame(this.frameBytes);
    this.#filled = 0;
  }

  #compress(): void {
    const packed = this.#compressor.compress(this.#frame.subarray(0, this.#filled));
    packed.catch(() => undefined); // reported when its turn comes; until then it must not count as unhandled
    this.#ahead.push({ frame: this.#frame, packed });
  }

  async #sealOldest(kind: FrameKind): Promise<void> {
    const oldest = this.#ahead.shift();
    if (oldest === undefined) return;
    const packed = await oldest.packed;
    const counter = this.#sizes.push(packed.bytes.length) - 1;
    if (counter >= FRAMES_MAX)
      throw new JBackupError("failed", `one sealed object cannot hold more than ${FRAMES_MAX} frames`, {
        hint: "Lay the content over several objects, as packs do.",
      });
    this.#sealedRawBytes += packed.rawBytes;
    this.#seal(kind, packed, counter);
    if (spare.length < SPARE_MOST) spare.push(oldest.frame); // sealing made a copy
  }

  #seal(kind: FrameKind, { bytes, rawBytes, isCompressed }: PackedFrame, counter: number): void {
    const head = { kind, counter, rawBytes, sealedBytes: bytes.length, isCompressed };
    for (const part of sealFrame(this.#key, head, bytes)) this.#put(part);
  }

  #put(bytes: Buffer): void {
    this.sealedBytes += bytes.length;
    if (bytes.length > 0) this.#emit(bytes);
  }
}

/** An upper bound for the sealed size of so many input bytes, for planning space. */
export const sealedBytesAtMost = (rawBytes: number, frameBytes = FRAME_MAX_BYTES): number =>
  rawBytes + (Math.floor(rawBytes / frameBytes) + 2) * (FRAME_OVERHEAD_BYTES + 4) + 8192;

/** Keeps what a Sealer emits, with the digest of the stored bytes. */
export class SealedBuffer {
  readonly chunks: Buffer[] = [];
  readonly #hash: Hash = createHash("sha256");
  #bytes = 0;

  readonly emit = (bytes: Buffer): void => {
    this.#hash.update(bytes);
    this.#bytes += bytes.length;
    this.chunks.push(bytes);
  };

  finish(name: string): SealedObject {
    return { name, bytes: this.#bytes, sha256: this.#hash.digest("hex"), chunks: this.chunks };
  }
}

/** Seals a stream as it passes, in bounded memory. */
export async function* sealStream(
  input: AsyncIterable<Uint8Array>,
  options: SealOptions,
): AsyncGenerator<Buffer> {
  let ready: Buffer[] = [];
  const sealer = new Sealer(options, (bytes) => ready.push(bytes));
  for await (const chunk of input) {
    for (let at = 0; at < chunk.length; at += sealer.frameBytes) {
      await sealer.write(chunk.subarray(at, at + sealer.frameBytes));
      const parts = ready;
      ready = [];
      yield* parts;
    }
  }
  await sealer.end();
  yield* ready;
}

/** Seals something small into memory, such as a WAL segment. */
export async function sealObject(
  input: AsyncIterable<Uint8Array>,
  options: SealOptions,
): Promise<SealedObject> {
  const sealed = new SealedBuffer();
  const sealer = new Sealer(options, sealed.emit);
  for await (const chunk of input) await sealer.write(chunk);
  await sealer.end();
  return sealed.finish(options.context.name);
}
