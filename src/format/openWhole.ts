import { freeMemory } from "../sys/memory.js";
import { FRAME_OVERHEAD_BYTES, HEAD_BYTES } from "./frame.js";
import { TRAILER_BYTES } from "./frameIndex.js";
import { checkHead, contentNow, type OpenedFrame, openBody } from "./frameReader.js";
import { openHeader, openingBytes, PROLOGUE_BYTES, type SealContext } from "./header.js";
import { requireEnd } from "./objectEnd.js";

/**
 * The opened content of an object that is in memory, without leaving this thread: for threads that do nothing else.
 * As with openSealed, complete only if it ends without an error.
 */
export function* openWhole(object: Buffer, dataKey: Uint8Array, context: SealContext): Generator<Buffer> {
  const openingEnd = openingBytes(object.subarray(0, PROLOGUE_BYTES), context);
  const [header, keys] = openHeader(object.subarray(0, openingEnd), dataKey, context);
  const opener = { header, keys, context };
  const sizes: number[] = [];
  let rawBytes = 0;
  let at = openingEnd;
  const next = (isLastSeen: boolean): OpenedFrame => {
    const head = checkHead(object.subarray(at, at + HEAD_BYTES), opener, sizes.length);
    const sealed = object.subarray(at + HEAD_BYTES, at + FRAME_OVERHEAD_BYTES + head.sealedBytes);
    at += FRAME_OVERHEAD_BYTES + head.sealedBytes;
    return { head, body: openBody(sealed, head, opener, sizes.length, isLastSeen) };
  };
  for (let isLast = false; !isLast; ) {
    const frame = next(false);
    sizes.push(frame.head.sealedBytes);
    rawBytes += frame.head.rawBytes;
    isLast = frame.head.kind === "last";
    const content = contentNow(frame, opener);
    if (content !== frame.body) freeMemory(frame.body);
    yield content;
  }
  const { body } = next(true);
  requireEnd(opener, { body, trailer: object.subarray(at, at + TRAILER_BYTES + 1), rawBytes, sizes });
}
