import { promisify } from "node:util";
import * as zlib from "node:zlib";
import type { Codec, Compression } from "../domain/config.js";
import { zstdCompress } from "./zstdPool.js";

/** Each call runs on a thread of its own in libuv's pool: start several and they compress at the same time. */
const zstdDecompress = promisify(zlib.zstdDecompress);
const gzip = promisify(zlib.gzip);
const gunzip = promisify(zlib.gunzip);

export interface PackedFrame {
  bytes: Buffer;
  rawBytes: number;
  isCompressed: boolean;
}

const QUICK_LEVEL = 1;
/** What the quick level may cost in size before the configured one is used. */
const QUICK_MAY_COST = 1.02;
const OLDER_COUNT = 0.9;
const TRIALS_APART = { least: 4, most: 64 };

/**
 * Compresses frames one after another. The configured level is the strongest that is used: from time to time a frame is
 * compressed at the quick level as well, and while that comes out about as small (on PostgreSQL's pages it often comes
 * out smaller, at a multiple of the speed) the following frames get the quick one.
 */
export class FrameCompressor {
  readonly #compression: Compression;
  readonly #hasChoice: boolean;
  #isQuickEnough = false;
  /** What the trials came to, the older ones counting less and less: one unusual frame among many decides nothing. */
  readonly #tried = { quick: 0, strong: 0 };
  #trialsApart = TRIALS_APART.least;
  #untilTrial = 0;

  constructor(compression: Compression) {
    this.#compression = compression;
    this.#hasChoice = compression.codec === "zstd" && compression.level > QUICK_LEVEL;
  }

  /** A frame that does not shrink is kept as it is, so that a sealed frame never outgrows its input. */
  async compress(raw: Buffer): Promise<PackedFrame> {
    const packed = await this.#pack(raw);
    return packed !== undefined && packed.length < raw.length
      ? { bytes: packed, rawBytes: raw.length, isCompressed: true }
      : { bytes: raw, rawBytes: raw.length, isCompressed: false };
  }

  #pack(raw: Buffer): Promise<Buffer | undefined> {
    const { codec, level } = this.#compression;
    if (!this.#hasChoice) return compress(raw, this.#compression);
    if (this.#untilTrial-- === 0) return this.#tryBoth(raw);
    return compress(raw, { codec, level: this.#isQuickEnough ? QUICK_LEVEL : level });
  }

  async #tryBoth(raw: Buffer): Promise<Buffer | undefined> {
    this.#untilTrial = this.#trialsApart - 1;
    const { codec, level } = this.#compression;
    const [strong, quick] = await Promise.all([
      compress(raw, { codec, level }),
      compress(raw, { codec, level: QUICK_LEVEL }),
    ]);
    if (strong === undefined || quick === undefined) return strong;
    this.#tried.quick = this.#tried.quick * OLDER_COUNT + quick.length;
    this.#tried.strong = this.#tried.strong * OLDER_COUNT + strong.length;
    const isQuickEnough = this.#tried.quick <= this.#tried.strong * QUICK_MAY_COST;
    // content that keeps its nature is asked less and less often
    this.#trialsApart =
      isQuickEnough === this.#isQuickEnough
        ? Math.min(TRIALS_APART.most, this.#trialsApart * 2)
        : TRIALS_APART.least;
    this.#isQuickEnough = isQuickEnough;
    return quick.length < strong.length ? quick : strong;
  }
}

async function compress(raw: Buffer, { codec, level }: Compression): Promise<Buffer | undefined> {
  if (raw.length === 0 || codec === "none") return undefined;
  if (codec === "zstd") return zstdCompress(raw, level);
  // room for the usual output at once: every further chunk costs a trip to the thread and back, unused room costs memory
  const chunkSize = Math.max(1024, Math.ceil(raw.length / 2));
  return gzip(raw, { level: Math.min(level, 9), chunkSize });
}

/**
 * Undefined when the bytes do not give exactly `rawBytes`: zlib and zstd may end early without an error, and a
 * decompression bomb stops at the length that the authenticated frame head promised.
 */
export async function expandFrame(
  bytes: Buffer,
  codec: Codec,
  rawBytes: number,
): Promise<Buffer | undefined> {
  if (codec === "none") return undefined; // a compressed frame in a container that compresses nothing
  const expand = codec === "gzip" ? gunzip : zstdDecompress;
  try {
    return ofLength(rawBytes, await expand(bytes, roomFor(rawBytes)));
  } catch {
    return undefined; // the frame was authentic, so whatever zlib says, these are not the bytes that were packed
  }
}

/** The same in this thread. */
export function expandFrameNow(bytes: Buffer, codec: Codec, rawBytes: number): Buffer | undefined {
  if (codec === "none") return undefined;
  const expand = codec === "gzip" ? zlib.gunzipSync : zlib.zstdDecompressSync;
  try {
    return ofLength(rawBytes, expand(bytes, roomFor(rawBytes)));
  } catch {
    return undefined;
  }
}

const ofLength = (rawBytes: number, raw: Buffer): Buffer | undefined =>
  raw.length === rawBytes ? raw : undefined;

/** A byte of room is left over: zlib would go round once more, with another buffer, to see that nothing follows a full one. */
const roomFor = (rawBytes: number): { maxOutputLength: number; chunkSize: number } => ({
  maxOutputLength: rawBytes,
  chunkSize: Math.max(64, rawBytes + 1),
});
