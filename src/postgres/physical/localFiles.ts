import type { FileHandle } from "node:fs/promises";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { parseLsn, segmentsBetween } from "../../domain/wal.js";
import { readInto } from "../../sys/readInto.js";
import { CONTROL, openIfThere, readControl, walkDataDirectory } from "./dataDirectory.js";
import { filePart, inMemory, type PageCheck, pageCheckOf, type ReadAgain } from "./pageCheck.js";
import type { BackupFiles, ByteSpan, FilePart, SourceFile } from "./sourceFile.js";

const SMALLEST_BYTES = 2 ** 20;

/** The files of a data directory that this host can read. `checkedFrom`: the start of the backup, when pages have checksums. */
export function filesOfDirectory(directory: string, checkedFrom: string | null): BackupFiles {
  const warnings: string[] = [];
  const buffers = new BufferPool();
  const startLsn = checkedFrom === null ? null : parseLsn(checkedFrom);
  const sourceOf = (path: string, mode: number, size: number): SourceFile => ({
    path,
    mode,
    size,
    read: async (partBytes, spans) => {
      if (spans?.length === 0) return noParts();
      const handle = await openIfThere(join(directory, path));
      if (handle === null) return null;
      return readParts(
        handle,
        buffers,
        spans ?? [{ start: 0, end: size }],
        partBytes,
        pageCheckOf(path, startLsn),
      );
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
    control: async () => {
      const { mode } = await stat(join(directory, CONTROL));
      return inMemory(CONTROL, mode, await readControl(directory));
    },
    async *wal({ timeline, startLsn: from, endLsn, segmentBytes }) {
      const names = segmentsBetween(timeline, parseLsn(from), parseLsn(endLsn), segmentBytes);
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

async function* noParts(): AsyncGenerator<FilePart> {}

async function* readParts(
  handle: FileHandle,
  buffers: BufferPool,
  spans: ByteSpan[],
  partBytes: number,
  check: PageCheck | null,
): AsyncGenerator<FilePart> {
  const most = spans.reduce((widest, { start, end }) => Math.max(widest, end - start), 1);
  const buffer = buffers.take(Math.min(partBytes, most));
  try {
    const readAgain: ReadAgain = async (into, at) => {
      await readInto(handle, into, at);
    };
    for (const { start, end } of spans) {
      for (let offset = start; offset < end; offset += partBytes) {
        const wanted = Math.min(partBytes, end - offset);
        const read = await readInto(handle, buffer.subarray(0, wanted), offset);
        if (read > 0) yield filePart(offset, buffer.subarray(0, read), check, readAgain);
        if (read < wanted) return; // it has shrunk: the WAL knows
      }
    }
  } finally {
    buffers.giveBack(buffer);
    await handle.close();
  }
}

/** Memory for reading, used again for file after file. */
class BufferPool {
  readonly #spare: Buffer[] = [];

  take(bytes: number): Buffer {
    const at = this.#spare.findIndex((buffer) => buffer.length >= bytes);
    return at === -1
      ? Buffer.allocUnsafeSlow(Math.max(bytes, SMALLEST_BYTES))
      : (this.#spare.splice(at, 1)[0] as Buffer);
  }

  giveBack(buffer: Buffer): void {
    this.#spare.push(buffer);
  }
}
