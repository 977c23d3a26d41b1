import { promisify } from "node:util";
import * as zlib from "node:zlib";
import type { Codec, Compression } from "../domain/config.js";

/** Each call runs on a thread of its own in libuv's pool: start several and they compress at the same time. */
const zstdCompress = promisify(zlib.zstdCompress);
const zstdDecompress = promisify(zlib.zstdDecompress);
const gzip = promisify(zlib.gzip);
const gunzip = promisify(zlib.gunzip);

export interface PackedFrame {
  bytes: Buffer;
  rawBytes: number;
  isCompressed: boolean;
}

/** A frame that does not shrink is kept as it is, so that a sealed frame never outgrows its input. */
export async function compressFrame(raw: Buffer, compression: Compression): Promise<PackedFrame> {
  const packed = await compress(raw, compression);
  return packed !== undefined && packed.length < raw.length
    ? { bytes: packed, rawBytes: raw.length, isCompressed: true }
    : { bytes: raw, rawBytes: raw.length, isCompressed: false };
}

async function compress(raw: Buffer, { codec, level }: Compression): Promise<Buffer | undefined> {
  if (raw.length === 0 || codec === "none") return undefined;
  // room for the usual output at once: every further chunk costs a trip to the thread and back, unused room costs memory
  const chunkSize = Math.max(1024, Math.ceil(raw.length / 2));
  if (codec === "gzip") return gzip(raw, { level: Math.min(level, 9), chunkSize });
  return zstdCompress(raw, { params: { [zlib.constants.ZSTD_c_compressionLevel]: level }, chunkSize });
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
    const raw = await expand(bytes, { maxOutputLength: rawBytes, chunkSize: Math.max(64, rawBytes) });
    return raw.length === rawBytes ? raw : undefined;
  } catch {
    return undefined; // the frame was authentic, so whatever zlib says, these are not the bytes that were packed
  }
}
