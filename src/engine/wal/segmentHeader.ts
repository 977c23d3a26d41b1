import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Lsn } from "../../domain/wal.js";

/** What PostgreSQL makes its segments of unless told otherwise; their content says it better. */
export const USUAL_SEGMENT_BYTES = 16 * 2 ** 20;

/** The first page of every segment says whose it is. */
export interface SegmentHeader {
  systemId: string;
  segmentBytes: number;
  /** Where in the WAL it begins. */
  from: Lsn;
}

const HEADER_BYTES = 40;
const LONG_HEADER = 0x0002;

/** Null when these bytes do not begin a segment. */
export function readSegmentHeader(content: Buffer): SegmentHeader | null {
  if (content.length < HEADER_BYTES || (content.readUInt16LE(2) & LONG_HEADER) === 0) return null;
  const segmentBytes = content.readUInt32LE(32);
  const isPowerOfTwo = segmentBytes >= 2 ** 20 && (segmentBytes & (segmentBytes - 1)) === 0;
  if (!isPowerOfTwo) return null;
  return {
    systemId: content.readBigUInt64LE(24).toString(),
    segmentBytes,
    from: content.readBigUInt64LE(8),
  };
}

/** The cluster that a path such as pg_wal/NAME belongs to, by the pg_control beside; null when there is none. */
export async function systemIdBeside(path: string): Promise<string | null> {
  try {
    const file = await open(join(dirname(dirname(path)), "global", "pg_control"));
    try {
      const bytes = Buffer.alloc(8);
      const { bytesRead } = await file.read(bytes, 0, 8, 0);
      return bytesRead === 8 ? bytes.readBigUInt64LE().toString() : null;
    } finally {
      await file.close();
    }
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}
