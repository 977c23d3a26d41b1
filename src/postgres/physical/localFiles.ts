import type { FileHandle } from "node:fs/promises";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { JBackupError } from "../../domain/errors.js";
import { openIfThere, readInto, walkDataDirectory } from "./dataDirectory.js";
import { relationFile } from "./exclusions.js";
import { PAGE_BYTES, wordsOf, wrongPages } from "./pageChecksum.js";
import type { BackupFiles, ByteSpan, FilePart, SourceFile } from "./sourceFile.js";

/** A page that is being written while it is read looks damaged: it is read again before it is called so. */
const LOOKS_AGAIN = 5;
const LOOK_PAUSE_MS = 20;
const PAGES_PER_SEGMENT = 131_072;
const CONTROL = "global/pg_control";

const lsnNumber = (lsn: string): bigint => {
  const [high = "0", low = "0"] = lsn.split("/");
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
};

/** The files of a data directory that this host can read. `checkedFrom`: the start of the backup, when pages have checksums. */
export function filesOfDirectory(directory: string, checkedFrom: string | null): BackupFiles {
  const warnings: string[] = [];
  const startLsn = checkedFrom === null ? null : lsnNumber(checkedFrom);
  const sourceOf = (path: string, mode: number, size: number): SourceFile => ({
    path,
    mode,
    size,
    read: async (partBytes, spans) => {
      const handle = await openIfThere(join(directory, path));
      if (handle === null) return null;
      const relation = relationFile(path);
      const check = startLsn === null || relation === null ? null : { startLsn, segment: relation.segment };
      return readParts(handle, spans ?? [{ start: 0, end: size }], partBytes, check);
    },
  });
  const sourceAt = async (path: string): Promise<SourceFile> => {
    const facts = await stat(join(directory, path));
    return sourceOf(path, facts.mode & 0o777, facts.size);
  };
  return {
    isParallel: true,
    async *all() {
      const walked = await walkDataDirectory(directory);
      for (const path of walked.skipped) warnings.push(`${path} is no ordinary file and was left out`);
      for (const folder of walked.folders) yield { ...folder, isFolder: true as const };
      for (const { path, mode, size } of walked.files) if (path !== CONTROL) yield sourceOf(path, mode, size);
    },
    control: () => sourceAt(CONTROL),
    async *wal({ timeline, startLsn: from, endLsn, segmentBytes }) {
      const names = segmentNames(timeline, lsnNumber(from), lsnNumber(endLsn), BigInt(segmentBytes));
      const there = new Set(await readdir(join(directory, "pg_wal")));
      const missing = names.filter((name) => !there.has(name));
      if (missing.length > 0)
        throw new JBackupError("failed", `the server has removed ${missing[0]}, which the backup needs`, {
          hint: "run the backup again; if this happens again, look for somebody who deletes in pg_wal",
        });
      const histories = [...there].filter((name) => /^[0-9A-F]{8}\.history$/.test(name)).sort();
      for (const name of [...histories, ...names]) yield await sourceAt(`pg_wal/${name}`);
    },
    warnings: () => warnings,
  };
}

function segmentNames(timeline: number, from: bigint, to: bigint, segmentBytes: bigint): string[] {
  const hex = (value: bigint): string => value.toString(16).toUpperCase().padStart(8, "0");
  const perLog = 0x1_0000_0000n / segmentBytes;
  const names: string[] = [];
  for (let number = from / segmentBytes; number <= (to - 1n) / segmentBytes; number++)
    names.push(`${hex(BigInt(timeline))}${hex(number / perLog)}${hex(number % perLog)}`);
  return names;
}

interface PageCheck {
  startLsn: bigint;
  segment: number;
}

async function* readParts(
  handle: FileHandle,
  spans: ByteSpan[],
  partBytes: number,
  check: PageCheck | null,
): AsyncGenerator<FilePart> {
  try {
    const most = spans.reduce((widest, { start, end }) => Math.max(widest, end - start), 1);
    const buffer = Buffer.allocUnsafeSlow(Math.min(partBytes, most));
    for (const { start, end } of spans) {
      for (let offset = start; offset < end; offset += partBytes) {
        const wanted = Math.min(partBytes, end - offset);
        const read = await readInto(handle, buffer.subarray(0, wanted), offset);
        const bytes = buffer.subarray(0, read);
        const damagedPages = check === null ? [] : await damagedIn(handle, bytes, offset, check);
        if (read > 0) yield { offset, bytes, damagedPages };
        if (read < wanted) return; // it has shrunk: the WAL knows
      }
    }
  } finally {
    await handle.close();
  }
}

async function damagedIn(
  handle: FileHandle,
  bytes: Buffer,
  offset: number,
  { startLsn, segment }: PageCheck,
): Promise<number[]> {
  const words = wordsOf(bytes);
  const firstPage = offset / PAGE_BYTES;
  const firstBlock = segment * PAGES_PER_SEGMENT + firstPage;
  let wrong = wrongPages(words, firstBlock, startLsn);
  for (let look = 0; wrong.length > 0 && look < LOOKS_AGAIN; look++) {
    await pause(LOOK_PAUSE_MS);
    for (const page of wrong) {
      const into = bytes.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
      await readInto(handle, into, offset + page * PAGE_BYTES);
    }
    wrong = wrongPages(words, firstBlock, startLsn);
  }
  return wrong.map((page) => firstPage + page);
}
