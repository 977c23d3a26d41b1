import { open } from "node:fs/promises";
import { extentsBetween, type MappedFile } from "../../domain/fileMap.js";
import { readInto } from "../../sys/readInto.js";
import type { Site } from "../site.js";
import type { WantedRuns } from "./runs.js";

const READ_BYTES = 2 ** 20;

export interface ComparedWith {
  site: Site;
  fingerprintKey: Buffer;
  wanted: WantedRuns;
}

/** Adds what differs between a file that is there and what it should be; answers how many bytes are right already. */
export async function addDifferences(
  { site, fingerprintKey, wanted }: ComparedWith,
  path: string,
  number: number,
  file: MappedFile,
  tags: Buffer,
): Promise<number> {
  const handle = await open(path, "r");
  let right = 0;
  // neighbours that differ are one run
  let differsFrom: number | null = null;
  const endRun = (end: number): void => {
    if (differsFrom !== null) wanted.add(number, differsFrom, extentsBetween(file.at, differsFrom, end));
    differsFrom = null;
  };
  try {
    const step = Math.max(READ_BYTES, file.block);
    const buffer = Buffer.allocUnsafeSlow(Math.min(step, Math.max(1, file.size)));
    const size = site.format.FINGERPRINT_BYTES;
    for (let at = 0; at < file.size; at += step) {
      site.signal.throwIfAborted();
      const length = Math.min(step, file.size - at);
      const there = buffer.subarray(0, await readInto(handle, buffer.subarray(0, length), at));
      const found = site.format.fingerprintsOf(fingerprintKey, there, file.block);
      const first = (at / file.block) * size;
      for (let inner = 0, tag = 0; inner < length; inner += file.block, tag += size) {
        const bytes = Math.min(file.block, length - inner);
        const isThere = inner + bytes <= there.length;
        const isRight =
          isThere && found.subarray(tag, tag + size).equals(tags.subarray(first + tag, first + tag + size));
        if (isRight) {
          endRun(at + inner);
          right += bytes;
        } else differsFrom ??= at + inner;
      }
    }
    endRun(file.size);
  } finally {
    await handle.close();
  }
  return right;
}
