import { closeSync, openSync, readSync } from "node:fs";
import { FINGERPRINT_BYTES, fingerprintsOf } from "./fileMap.js";

const READ_BYTES = 2 ** 20;

export interface CompareTask {
  path: string;
  /** What the file should be: its length, and the fingerprints of its blocks. */
  size: number;
  block: number;
  tags: Uint8Array;
  key: Uint8Array;
}

export interface Differences {
  /** Bytes that are right already. */
  right: number;
  /** Where it differs, from and up to, not including: neighbours are one. */
  parts: [from: number, to: number][];
}

/** A file that is there against what it should be. */
export function compareFile({ path, size, block, tags, key }: CompareTask): Differences {
  const found: Differences = { right: 0, parts: [] };
  const step = Math.max(READ_BYTES, block);
  const buffer = Buffer.allocUnsafe(Math.min(step, size));
  const file = openSync(path, "r");
  try {
    for (let at = 0; at < size; at += step) {
      const length = Math.min(step, size - at);
      const there = buffer.subarray(0, readFully(file, buffer.subarray(0, length), at));
      const inside = fingerprintsOf(Buffer.from(key), there, block);
      const wanted = tags.subarray((at / block) * FINGERPRINT_BYTES);
      for (let inner = 0, tag = 0; inner < length; inner += block, tag += FINGERPRINT_BYTES) {
        const bytes = Math.min(block, length - inner);
        const isThere = inner + bytes <= there.length;
        if (isThere && isSame(inside, wanted, tag)) found.right += bytes;
        else addPart(found.parts, at + inner, at + inner + bytes);
      }
    }
  } finally {
    closeSync(file);
  }
  return found;
}

const isSame = (inside: Buffer, wanted: Uint8Array, at: number): boolean =>
  inside.subarray(at, at + FINGERPRINT_BYTES).equals(wanted.subarray(at, at + FINGERPRINT_BYTES));

function addPart(parts: Differences["parts"], from: number, to: number): void {
  const last = parts.at(-1);
  if (last !== undefined && last[1] === from) last[1] = to;
  else parts.push([from, to]);
}

function readFully(file: number, into: Buffer, at: number): number {
  let done = 0;
  while (done < into.length) {
    const bytes = readSync(file, into, done, into.length - done, at + done);
    if (bytes === 0) break;
    done += bytes;
  }
  return done;
}
