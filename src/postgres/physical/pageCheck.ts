import { setTimeout as pause } from "node:timers/promises";
import { relationFile } from "./exclusions.js";
import { PAGE_BYTES, wordsOf, wrongPages } from "./pageChecksum.js";
import type { CheckedPages, FilePart, SourceFile } from "./sourceFile.js";

/** A page that is being written while it is read looks damaged: it is read again before it is called so. */
const LOOKS_AGAIN = 5;
const LOOK_PAUSE_MS = 20;
const PAGES_PER_SEGMENT = 131_072;

export interface PageCheck {
  startLsn: bigint;
  segment: number;
}

/** How the pages of a file are checked; null for files that are not made of pages, or when pages have no checksums. */
export function pageCheckOf(path: string, startLsn: bigint | null): PageCheck | null {
  const relation = startLsn === null ? null : relationFile(path);
  return startLsn === null || relation === null ? null : { startLsn, segment: relation.segment };
}

/** Fills the buffer with what stands at an offset of the file now; leaves it as it is where that cannot be read. */
export type ReadAgain = (into: Buffer, at: number) => Promise<void>;

const NOTHING_WRONG: CheckedPages = { damaged: [], hasChanged: false };

export const filePart = (
  offset: number,
  bytes: Buffer,
  check: PageCheck | null,
  readAgain: ReadAgain,
): FilePart => ({
  offset,
  bytes,
  check: async (from, to) =>
    check === null ? NOTHING_WRONG : checkPages(bytes.subarray(from, to), offset + from, check, readAgain),
});

/** A file that is small and known already. */
export const inMemory = (path: string, mode: number, content: Buffer): SourceFile => ({
  path,
  mode: mode & 0o777,
  size: content.length,
  read: async () =>
    (async function* () {
      if (content.length > 0) yield filePart(0, content, null, async () => undefined);
    })(),
});

async function checkPages(
  bytes: Buffer,
  offset: number,
  { startLsn, segment }: PageCheck,
  readAgain: ReadAgain,
): Promise<CheckedPages> {
  const words = wordsOf(bytes);
  const firstPage = offset / PAGE_BYTES;
  const firstBlock = segment * PAGES_PER_SEGMENT + firstPage;
  let wrong = wrongPages(words, firstBlock, startLsn);
  if (wrong.length === 0) return NOTHING_WRONG;
  for (let look = 0; wrong.length > 0 && look < LOOKS_AGAIN; look++) {
    await pause(LOOK_PAUSE_MS);
    for (const page of wrong) {
      const into = bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
      await readAgain(into, offset + page * PAGE_BYTES);
    }
    wrong = wrongPages(words, firstBlock, startLsn);
  }
  return { damaged: wrong.map((page) => firstPage + page), hasChanged: true };
}
