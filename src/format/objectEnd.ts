import { objectFault } from "./faults.js";
import { FRAME_OVERHEAD_BYTES } from "./frame.js";
import { offsetOf, readIndex, readTrailer, TRAILER_BYTES } from "./frameIndex.js";
import type { ObjectOpener } from "./frameReader.js";
import { HEADER_TAIL_BYTES } from "./header.js";

export interface End {
  /** The opened index. */
  body: Buffer;
  /** What follows it, up to one byte more than belongs there. */
  trailer: Buffer;
  rawBytes: number;
  sizes: number[];
}

/** Behind the last frame stand exactly the index of these frames and its trailer. */
export function requireEnd({ header, context }: ObjectOpener, { body, trailer, rawBytes, sizes }: End): void {
  const index = readIndex(body, header.bytes.length + HEADER_TAIL_BYTES);
  const isCut = trailer.length < TRAILER_BYTES;
  if (isCut) throw objectFault("object_truncated", context, "is cut off inside its trailer");
  const isSame =
    index.rawBytes === rawBytes &&
    sizes.every(
      (size, at) => offsetOf(index, at + 1) - offsetOf(index, at) === size + FRAME_OVERHEAD_BYTES,
    ) &&
    readTrailer(trailer) === offsetOf(index, sizes.length);
  if (trailer.length > TRAILER_BYTES || !isSame)
    throw objectFault("object_corrupt", context, "has a damaged end, or bytes behind it");
}
