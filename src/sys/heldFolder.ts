import { constants } from "node:fs";
import { type FileHandle, lstat, open, readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";

const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY;

/** A folder held open: a path below `at` leads into this very folder, whatever somebody has made of its name meanwhile. */
export interface HeldFolder {
  /** For the calls of this process, in all its threads. */
  readonly at: string;
  readonly handle: FileHandle;
}

/** A link under this very name is followed: whoever may make one there is believed, or looks at what is held. */
export async function holdFolder(path: string): Promise<HeldFolder> {
  const handle = await open(path, FOLDER);
  return { handle, at: process.platform === "linux" ? `/proc/self/fd/${handle.fd}` : path };
}

/** Gives a folder another owner and mode, itself and not what a link in its place leads to. */
export async function ownFolder(
  path: string,
  { uid, gid, mode }: { uid: number; gid: number; mode: number },
): Promise<{ uid: number; gid: number; mode: number }> {
  const folder = await open(path, FOLDER | constants.O_NOFOLLOW);
  try {
    const before = await folder.stat();
    await folder.chown(uid, gid);
    await folder.chmod(mode);
    return { uid: before.uid, gid: before.gid, mode: before.mode & 0o7777 };
  } finally {
    await folder.close();
  }
}

/**
 * Removes whatever stands there. Every folder is made root's own before it is looked into: its owner could else put a link
 * into it between the look and the removal, and have root remove what it leads to.
 */
export async function removeTree(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (found === null) return;
  if (!found.isDirectory()) return rm(path, { force: true });
  if (process.getuid?.() === 0) await ownFolder(path, { uid: 0, gid: 0, mode: 0o700 });
  for (const name of await readdir(path)) await removeTree(join(path, name));
  await rmdir(path);
}
