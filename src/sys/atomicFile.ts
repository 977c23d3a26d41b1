import { randomBytes } from "node:crypto";
import { type FileHandle, link, lstat, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";

export interface AtomicWrite {
  /** Replace what stands at the path. Without it an existing file is refused with EEXIST. */
  overwrite?: boolean;
  /** Exactly this one, whatever the umask; 0600 unless told otherwise. */
  mode?: number;
  directoryMode?: number;
  signal?: AbortSignal | undefined;
}

type Content = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

const TEMPORARY = /^~jbackup-[0-9a-f]{16}\.tmp$/;

/** `~` is no letter of an object key, so that a temporary file can never be taken for an object. */
export const temporaryName = (): string => `~jbackup-${randomBytes(8).toString("hex")}.tmp`;

export const isTemporaryName = (name: string): boolean => TEMPORARY.test(name);

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | null)?.code;

/**
 * Writes the whole file or nothing: until this resolves no reader sees the path (or still sees the old file), and once it
 * has resolved the file survives a power cut. After an error or an abort nothing new stands at the path.
 * Missing directories are made. A failed fsync is final: the kernel may have dropped the pages, a second one would lie.
 */
export async function writeFileAtomic(
  path: string,
  content: Content,
  options: AtomicWrite = {},
): Promise<void> {
  const directory = dirname(path);
  const [temporary, file] = await openTemporary(directory, options);
  try {
    await fill(file, content, options);
    await publish(temporary, path, options.overwrite === true);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Another process may prune the empty directory between its making and its use. */
async function openTemporary(directory: string, options: AtomicWrite): Promise<[string, FileHandle]> {
  for (let attempt = 1; ; attempt++) {
    await makeDirectory(directory, options.directoryMode ?? 0o700);
    const temporary = join(directory, temporaryName());
    try {
      return [temporary, await open(temporary, "wx", options.mode ?? 0o600)];
    } catch (error) {
      if (codeOf(error) !== "ENOENT" || attempt === 5) throw error;
    }
  }
}

async function fill(file: FileHandle, content: Content, { mode, signal }: AtomicWrite): Promise<void> {
  try {
    if (mode !== undefined) await file.chmod(mode);
    for await (const chunk of chunksOf(content)) {
      signal?.throwIfAborted();
      await writeWhole(file, chunk);
    }
    signal?.throwIfAborted();
    await file.sync();
  } finally {
    await file.close();
  }
}

const chunksOf = (content: Content): Iterable<Uint8Array> | AsyncIterable<Uint8Array> => {
  if (typeof content === "string") return [Buffer.from(content)];
  return content instanceof Uint8Array ? [content] : content;
};

/** A disk that is almost full takes a part of a chunk without a word. */
export async function writeWhole(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    done += (await file.write(chunk, done, chunk.length - done)).bytesWritten;
  }
}

async function publish(temporary: string, path: string, overwrite: boolean): Promise<void> {
  if (overwrite) await rename(temporary, path);
  else await linkNew(temporary, path);
  try {
    await syncDirectory(dirname(path));
  } catch (error) {
    // The new name may not survive a power cut, so it must not be seen either. A replaced file cannot be brought back.
    if (!overwrite) await rm(path, { force: true });
    throw error;
  }
}

/** A hard link refuses an existing name in one step, which a rename cannot. */
async function linkNew(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(codeOf(error) ?? "")) throw error;
    await renameNew(temporary, path);
  }
}

/** For file systems without hard links: another process could slip in between the look and the rename. */
async function renameNew(temporary: string, path: string): Promise<void> {
  const taken = await lstat(path).then(
    () => true,
    (error: unknown) => {
      if (codeOf(error) === "ENOENT") return false;
      throw error;
    },
  );
  if (taken) throw Object.assign(new Error(`EEXIST: file already exists, '${path}'`), { code: "EEXIST" });
  await rename(temporary, path);
}

/** Makes the directory and its missing parents so that they survive a power cut: each new name needs its parent's fsync. */
export async function makeDirectory(path: string, mode = 0o700, attempts = 5): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (codeOf(error) === "EEXIST") return;
    // /proc says that there is no such thing however often it is asked
    if (codeOf(error) !== "ENOENT" || dirname(path) === path || attempts === 0) throw error;
    await makeDirectory(dirname(path), mode);
    return makeDirectory(path, mode, attempts - 1);
  }
  await syncDirectory(dirname(path));
}

/** Makes names that were added to or removed from the directory survive a power cut. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
