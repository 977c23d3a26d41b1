import { FRAME_OVERHEAD_BYTES, type FrameHead } from "./frame.js";

/**
 * The index is the last frame-like part of a container: raw length and the size of every frame, so that a
 * reader finds any byte. The trailer behind it, of fixed size, tells where the index begins.
 */
export interface FrameIndex {
  rawBytes: number;
  /** Where each frame begins; one more entry for where the index begins. */
  offsets: number[];
}

const TRAILER_MAGIC = Buffer.from("JBKEND\r\n", "latin1");
export const TRAILER_BYTES = 16;
/** Four million frames: 4 TiB in one object. */
export const FRAMES_MAX = 2 ** 22;
export const INDEX_MAX_BYTES = 8 + 4 * FRAMES_MAX;

export function writeIndex(rawBytes: number, sealedSizes: number[]): Buffer {
  const bytes = Buffer.alloc(8 + 4 * sealedSizes.length);
  bytes.writeBigUInt64BE(BigInt(rawBytes), 0);
  sealedSizes.forEach((size, at) => {
    bytes.writeUInt32BE(size, 8 + 4 * at);
  });
  return bytes;
}

export function readIndex(bytes: Buffer, firstOffset: number): FrameIndex {
  const offsets = [firstOffset];
  let offset = firstOffset;
  for (let at = 8; at < bytes.length; at += 4) {
    offset += bytes.readUInt32BE(at) + FRAME_OVERHEAD_BYTES;
    offsets.push(offset);
  }
  return { rawBytes: Number(bytes.readBigUInt64BE(0)), offsets };
}

export const isIndexHead = (head: FrameHead): boolean =>
  head.kind === "index" &&
  !head.isCompressed &&
  head.rawBytes === head.sealedBytes &&
  head.rawBytes === 8 + 4 * head.counter &&
  head.rawBytes <= INDEX_MAX_BYTES;

export function writeTrailer(indexOffset: number): Buffer {
  const bytes = Buffer.alloc(TRAILER_BYTES);
  bytes.writeBigUInt64BE(BigInt(indexOffset), 0);
  TRAILER_MAGIC.copy(bytes, 8);
  return bytes;
}

/** The offset of the index, or undefined when these are not the last bytes of a container. */
export function readTrailer(bytes: Buffer): number | undefined {
  if (bytes.length < TRAILER_BYTES || !endsLikeContainer(bytes)) return undefined;
  return Number(bytes.readBigUInt64BE(bytes.length - TRAILER_BYTES));
}

export const endsLikeContainer = (bytes: Buffer): boolean =>
  bytes.subarray(-TRAILER_MAGIC.length).equals(TRAILER_MAGIC);

/** Where a frame begins in the object; the one behind the last is the index itself. */
export const offsetOf = (index: FrameIndex, frame: number): number => index.offsets[frame] ?? Number.NaN;
