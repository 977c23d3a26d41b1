import { segmentName } from "../../src/domain/wal.js";

export const SMALL_SEGMENT = 2 ** 20;

export interface MadeSegment {
  name: string;
  content: Buffer;
}

/** A segment as a server would make it, as far as its header tells: the smallest that there are. */
export function makeSegment(
  number: number,
  { systemId = 77n, timeline = 1, filled = 0.5 } = {},
): MadeSegment {
  const content = Buffer.alloc(SMALL_SEGMENT);
  for (let at = 0; at < SMALL_SEGMENT * filled; at += 4)
    content.writeUInt32LE((at * 2_654_435_761 + number) >>> 0, at);
  content.writeUInt16LE(0xd110, 0);
  content.writeUInt16LE(0x0002, 2);
  content.writeUInt32LE(timeline, 4);
  content.writeBigUInt64LE(BigInt(number) * BigInt(SMALL_SEGMENT), 8);
  content.writeBigUInt64LE(systemId, 24);
  content.writeUInt32LE(SMALL_SEGMENT, 32);
  content.writeUInt32LE(8192, 36);
  return { name: segmentName({ timeline, number: BigInt(number) }, SMALL_SEGMENT), content };
}
