import { JBackupError } from "../../domain/errors.js";
import { CONTROL } from "./dataDirectory.js";
import { filePart, inMemory, pageCheckOf, type ReadAgain } from "./pageCheck.js";
import type { BackupFiles, FilePart, SourceFile } from "./sourceFile.js";
import type { TarEntry } from "./tar.js";

const LABEL = "backup_label";
const SMALL_BYTES = 2 ** 20;

/** One archive of the stream: the data directory itself, or a tablespace. */
export interface StreamedArchive {
  /** The tablespace's oid; null for the data directory. */
  tablespace: string | null;
  entries: AsyncIterable<TarEntry>;
}

export interface StreamedFiles extends BackupFiles {
  /** What stood in the file backup_label, once everything has been read. */
  backupLabel(): string;
}

/** The files of a cluster in the order in which the server sends them. They can be read once, one after another. */
export function filesOfStream(
  archives: AsyncIterable<StreamedArchive>,
  startLsn: bigint | null,
  wal: BackupFiles["wal"],
  readAgain: (path: string, into: Buffer, at: number) => Promise<void>,
): StreamedFiles {
  const warnings: string[] = [];
  let control: { file: SourceFile } | null = null;
  let label: string | null = null;

  const sourceOf = (path: string, entry: TarEntry): SourceFile => ({
    path,
    mode: entry.mode & 0o777,
    size: entry.size,
    read: async (partBytes) =>
      partsOf(entry, partBytes, (offset, bytes) =>
        filePart(offset, bytes, pageCheckOf(path, startLsn), again(path)),
      ),
  });
  const again =
    (path: string): ReadAgain =>
    (into, at) =>
      readAgain(path, into, at);

  async function* filesIn({ tablespace, entries }: StreamedArchive): ReturnType<BackupFiles["all"]> {
    if (tablespace !== null) yield { path: `pg_tblspc/${tablespace}`, mode: 0o700, isFolder: true };
    for await (const entry of entries) {
      const name = plainPath(entry.name);
      if (name === "") continue;
      const path = tablespace === null ? name : `pg_tblspc/${tablespace}/${name}`;
      if (path === LABEL) label = (await smallContent(entry)).toString("utf8");
      else if (path === "tablespace_map") await smallContent(entry);
      else if (path === CONTROL) control = { file: inMemory(path, entry.mode, await smallContent(entry)) };
      else if (entry.kind === "folder") yield { path, mode: entry.mode & 0o777, isFolder: true };
      else if (entry.kind === "file") yield sourceOf(path, entry);
      else if (!/^pg_tblspc\/\d+$/.test(path)) warnings.push(`${path} is no ordinary file and was left out`);
    }
  }

  return {
    isParallel: false,
    async *all() {
      for await (const archive of archives) yield* filesIn(archive);
      if (control === null || label === null)
        throw new JBackupError(
          "postgres_failed",
          `the server's base backup holds no ${label === null ? LABEL : CONTROL}`,
        );
    },
    control: async () => {
      if (control === null) throw new JBackupError("bug", `${CONTROL} was asked for before the stream ended`);
      return control.file;
    },
    wal,
    warnings: () => warnings,
    backupLabel: () => label ?? "",
  };
}

const plainPath = (name: string): string =>
  name
    .replace(/^(\.\/)+/, "")
    .replace(/^\.$/, "")
    .replace(/\/$/, "");

async function smallContent(entry: TarEntry): Promise<Buffer> {
  if (entry.size > SMALL_BYTES)
    throw new JBackupError(
      "postgres_failed",
      `the server's base backup has a ${entry.name} of ${entry.size} bytes`,
    );
  const content = Buffer.allocUnsafeSlow(entry.size);
  await entry.readInto(content);
  return content;
}

async function* partsOf(
  source: Pick<TarEntry, "size" | "readInto">,
  partBytes: number,
  toPart: (offset: number, bytes: Buffer) => FilePart,
): AsyncGenerator<FilePart> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(partBytes, Math.max(1, source.size)));
  for (let offset = 0; offset < source.size; ) {
    const read = await source.readInto(buffer);
    yield toPart(offset, buffer.subarray(0, read));
    offset += read;
  }
}
