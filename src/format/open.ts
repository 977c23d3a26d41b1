import { AskedOnce } from "./askedOnce.js";
import { ByteReader } from "./byteReader.js";
import { objectFault } from "./faults.js";
import { FRAME_OVERHEAD_BYTES, HEAD_BYTES, TAG_BYTES } from "./frame.js";
import {
  type FrameIndex,
  INDEX_MAX_BYTES,
  offsetOf,
  readIndex,
  readTrailer,
  TRAILER_BYTES,
} from "./frameIndex.js";
import { contentOf, type ObjectOpener, readFrame, readOpening } from "./frameReader.js";
import { HEADER_MAX_BYTES, HEADER_TAIL_BYTES, type SealContext } from "./header.js";
import { requireEnd } from "./objectEnd.js";

/** A stored object that can be read from any offset; reading twice gives the same bytes. */
export interface ObjectSource {
  readonly bytes: number;
  /** Bytes from `start` up to, not including, `end`. */
  read(start: number, end: number): AsyncIterable<Uint8Array>;
}

/** Frames that are decompressed while the first of them is handed over. */
const FRAMES_AHEAD = 6;
/** Read from the end in one go: trailer and index of any pack are inside. */
const TAIL_BYTES = 65_536;

/** The opened content from its beginning, in one pass over the object. Complete only if it ends without an error. */
export async function* openSealed(
  source: ObjectSource,
  dataKey: Uint8Array,
  context: SealContext,
): AsyncGenerator<Buffer> {
  const reader = new ByteReader(source.read(0, source.bytes));
  try {
    const opener = await readOpening(reader, dataKey, context);
    yield* inOrder(framesToEnd(reader, opener), opener);
  } finally {
    await reader.close();
  }
}

/** Opens every frame and answers how many bytes the object holds. */
export async function verifySealed(
  source: ObjectSource,
  dataKey: Uint8Array,
  context: SealContext,
): Promise<number> {
  let rawBytes = 0;
  for await (const content of openSealed(source, dataKey, context)) rawBytes += content.length;
  return rawBytes;
}

/** Bytes `start` up to, not including, `end` of the opened content; reads only the frames that hold them. */
export async function* openRange(
  source: ObjectSource,
  dataKey: Uint8Array,
  context: SealContext,
  start: number,
  end: number,
): AsyncGenerator<Buffer> {
  for await (const { content } of openRanges(source, dataKey, context, [{ start, end }])) yield content;
}

export interface Range {
  start: number;
  /** Not included. */
  end: number;
}

/** Several ranges of the opened content, one after another. Header and index are read once, and so is every frame of ranges that share none. */
export async function* openRanges(
  source: ObjectSource,
  dataKey: Uint8Array,
  context: SealContext,
  ranges: Iterable<Range>,
): AsyncGenerator<{ offset: number; content: Buffer }> {
  const object = new AskedOnce(source);
  const opener = await openOpening(object, dataKey, context);
  const index = await openIndex(object, opener);
  for (const { start, end } of ranges) {
    if (start < 0 || end < start || end > index.rawBytes)
      throw objectFault(
        "object_truncated",
        context,
        `holds ${index.rawBytes} bytes; bytes ${start} to ${end} were asked for`,
      );
    if (start < end) yield* framesOfRange(object, opener, index, { start, end });
  }
}

async function* framesOfRange(
  source: ObjectSource,
  opener: ObjectOpener,
  index: FrameIndex,
  { start, end }: Range,
): AsyncGenerator<{ offset: number; content: Buffer }> {
  const { frameBytes } = opener.header;
  const first = Math.floor(start / frameBytes);
  const last = Math.floor((end - 1) / frameBytes);
  const reader = new ByteReader(source.read(offsetOf(index, first), offsetOf(index, last + 1)));
  try {
    let at = first * frameBytes;
    for await (const content of inOrder(framesBetween(reader, opener, first, last), opener)) {
      const from = Math.max(0, start - at);
      yield { offset: at + from, content: content.subarray(from, end - at) };
      at += content.length;
    }
  } finally {
    await reader.close();
  }
}

type Frames = AsyncGenerator<Awaited<ReturnType<typeof readFrame>>>;

async function* framesToEnd(reader: ByteReader, opener: ObjectOpener): Frames {
  const sizes: number[] = [];
  let rawBytes = 0;
  for (let isLast = false; !isLast; ) {
    const frame = await readFrame(reader, opener, sizes.length);
    sizes.push(frame.head.sealedBytes);
    rawBytes += frame.head.rawBytes;
    isLast = frame.head.kind === "last";
    yield frame;
  }
  await checkEnd(reader, opener, rawBytes, sizes);
}

async function checkEnd(
  reader: ByteReader,
  opener: ObjectOpener,
  rawBytes: number,
  sizes: number[],
): Promise<void> {
  const { body } = await readFrame(reader, opener, sizes.length, true);
  requireEnd(opener, { body, trailer: await reader.take(TRAILER_BYTES + 1), rawBytes, sizes });
}

async function* framesBetween(reader: ByteReader, opener: ObjectOpener, first: number, last: number): Frames {
  for (let counter = first; counter <= last; counter++) yield await readFrame(reader, opener, counter);
}

/** Decompresses several frames at a time and hands them over in order. */
async function* inOrder(frames: Frames, opener: ObjectOpener): AsyncGenerator<Buffer> {
  const ahead: Promise<Buffer>[] = [];
  for await (const frame of frames) {
    const content = contentOf(frame, opener);
    content.catch(() => undefined); // reported when its turn comes
    ahead.push(content);
    if (ahead.length > FRAMES_AHEAD) yield (await ahead.shift()) as Buffer;
  }
  for (const content of ahead) yield await content;
}

async function openOpening(
  object: AskedOnce,
  dataKey: Uint8Array,
  context: SealContext,
): Promise<ObjectOpener> {
  const end = Math.min(object.bytes, HEADER_MAX_BYTES + HEADER_TAIL_BYTES);
  const reader = new ByteReader(onePiece(await object.keep(0, end)));
  try {
    return await readOpening(reader, dataKey, context);
  } finally {
    await reader.close();
  }
}

async function openIndex(object: AskedOnce, opener: ObjectOpener): Promise<FrameIndex> {
  const { header, context } = opener;
  const firstOffset = header.bytes.length + HEADER_TAIL_BYTES;
  let tailAt = Math.max(0, object.bytes - TAIL_BYTES);
  let tail = await object.keep(tailAt, object.bytes);
  const indexAt = readTrailer(tail);
  if (indexAt === undefined) throw objectFault("object_truncated", context, "has no end mark");
  const indexBytes = object.bytes - TRAILER_BYTES - indexAt;
  if (indexAt < firstOffset || indexBytes < FRAME_OVERHEAD_BYTES) throw damagedIndex(opener);
  if (indexBytes > INDEX_MAX_BYTES + FRAME_OVERHEAD_BYTES) throw damagedIndex(opener);
  if (indexAt < tailAt) {
    tail = await object.keep(indexAt, object.bytes);
    tailAt = indexAt;
  }
  const sealed = tail.subarray(indexAt - tailAt, tail.length - TRAILER_BYTES);
  const counter = (indexBytes - FRAME_OVERHEAD_BYTES - 8) / 4;
  const reader = new ByteReader(onePiece(sealed));
  const { head, body } = await readFrame(reader, opener, counter, true);
  if (head.kind !== "index" || HEAD_BYTES + body.length + TAG_BYTES !== indexBytes)
    throw damagedIndex(opener);
  const index = readIndex(body, firstOffset);
  const frames = index.offsets.length - 1;
  const isWhole = Math.max(1, Math.ceil(index.rawBytes / header.frameBytes)) === frames;
  if (!isWhole || offsetOf(index, frames) !== indexAt) throw damagedIndex(opener);
  return index;
}

async function* onePiece(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
}

const damagedIndex = (opener: ObjectOpener) =>
  objectFault("object_corrupt", opener.context, "has a damaged frame index");
