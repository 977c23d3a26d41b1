import type { ByteReader } from "./byteReader.js";
import { expandFrame, expandFrameNow } from "./compress.js";
import { objectFault } from "./faults.js";
import { type FrameHead, HEAD_BYTES, openFrame, readHead, TAG_BYTES } from "./frame.js";
import { endsLikeContainer, isIndexHead } from "./frameIndex.js";
import { type Header, type ObjectKeys, openHeader, openingBytes, type SealContext } from "./header.js";

export interface OpenedFrame {
  head: FrameHead;
  body: Buffer;
}

/** What opens the frames of one object: its header is checked, its key is known. */
export interface ObjectOpener {
  header: Header;
  keys: ObjectKeys;
  context: SealContext;
}

export async function readOpening(
  reader: ByteReader,
  dataKey: Uint8Array,
  context: SealContext,
): Promise<ObjectOpener> {
  const prologue = await reader.take(12);
  const rest = await reader.take(openingBytes(prologue, context) - prologue.length);
  const [header, keys] = openHeader(Buffer.concat([prologue, rest]), dataKey, context);
  return { header, keys, context };
}

/** The next frame, which must be the one with this counter; also the index, which stands where frames end. */
export async function readFrame(
  reader: ByteReader,
  opener: ObjectOpener,
  counter: number,
  isLastSeen = false,
): Promise<OpenedFrame> {
  const head = checkHead(await reader.take(HEAD_BYTES), opener, counter);
  const sealed = await reader.take(head.sealedBytes + TAG_BYTES);
  return { head, body: openBody(sealed, head, opener, counter, isLastSeen) };
}

/** What a frame's head says, when a frame can have it. */
export function checkHead(bytes: Buffer, opener: ObjectOpener, counter: number): FrameHead {
  if (bytes.length < HEAD_BYTES) throw cutOff(bytes, opener, counter);
  const head = readHead(bytes);
  if (head === undefined || !isPossible(head, opener.header.frameBytes)) throw damaged(opener, counter);
  return head;
}

/** What was sealed under this head, when it is the frame that belongs here. */
export function openBody(
  sealed: Buffer,
  head: FrameHead,
  opener: ObjectOpener,
  counter: number,
  isLastSeen: boolean,
): Buffer {
  const { keys, context } = opener;
  if (sealed.length < head.sealedBytes + TAG_BYTES) throw cutOff(sealed, opener, counter);
  const body = openFrame(keys.key, head, sealed);
  if (body === undefined) throw damaged(opener, counter);
  // only authentic frames get this far: what is wrong now was done by moving whole frames about
  if (head.kind === "index" && !isLastSeen)
    throw objectFault("object_truncated", context, `lost frames at its end: frame ${counter} is missing`);
  if (head.counter < counter && head.kind !== "index")
    throw objectFault("frame_duplicated", context, `has frame ${head.counter} twice`);
  if (head.counter !== counter)
    throw objectFault(
      "frame_reordered",
      context,
      `has frame ${head.counter} where frame ${counter} belongs: frames were moved or taken out`,
    );
  return body;
}

/** The opened content of a frame. Runs beside others: decompression has threads of its own. */
export async function contentOf({ head, body }: OpenedFrame, opener: ObjectOpener): Promise<Buffer> {
  if (!head.isCompressed) return body;
  return expanded(await expandFrame(body, opener.header.codec, head.rawBytes), head, opener);
}

/** The same, in this thread. */
export function contentNow({ head, body }: OpenedFrame, opener: ObjectOpener): Buffer {
  if (!head.isCompressed) return body;
  return expanded(expandFrameNow(body, opener.header.codec, head.rawBytes), head, opener);
}

function expanded(content: Buffer | undefined, { counter }: FrameHead, { context }: ObjectOpener): Buffer {
  if (content === undefined)
    throw objectFault(
      "object_corrupt",
      context,
      `has an authentic frame ${counter} that does not expand to the length it states`,
    );
  return content;
}

/** Refuses absurd lengths before any memory is spent on them. */
function isPossible(head: FrameHead, frameBytes: number): boolean {
  if (head.kind === "index") return isIndexHead(head);
  if (head.kind === "middle" && head.rawBytes !== frameBytes) return false;
  if (head.rawBytes > frameBytes) return false;
  return head.isCompressed ? head.sealedBytes < head.rawBytes : head.sealedBytes === head.rawBytes;
}

/** An object that ends too early was cut, unless its end is there: then a length inside it was damaged. */
function cutOff(rest: Buffer, opener: ObjectOpener, counter: number) {
  return endsLikeContainer(rest)
    ? damaged(opener, counter)
    : objectFault("object_truncated", opener.context, `is cut off at frame ${counter}`);
}

const damaged = (opener: ObjectOpener, counter: number) =>
  objectFault("object_corrupt", opener.context, `is damaged at frame ${counter}`);
