import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readdir, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY;

/** A folder held open: a path below `at` leads into this very folder, whatever somebody has made of its name meanwhile. */
export interface HeldFolder {
  /** For the calls of this process, in all its threads. */
  readonly at: string;
  readonly handle: FileHandle;
}

/** A link under this very name is followed: whoever may make one there is believed, or looks at what is held. */
export async function holdFolder(path: string): Promise<HeldFolder> {
  return held(await open(path, FOLDER), path);
}

const held = (handle: FileHandle, path: string): HeldFolder => ({
  handle,
  at: process.platform === "linux" ? `/proc/self/fd/${handle.fd}` : path,
});

/**
 * The folders that lead to `path`, where they are missing, passable for everybody whatever the umask says. They stay whose they
 * are made: nobody can put a link in place of one that is root's. Of the first one, which may lie in somebody's folder, what
 * takes its place is refused.
 */
export async function makeWayTo(path: string): Promise<void> {
  const missing: string[] = [];
  let above = dirname(path);
  for (; !(await isThere(above)); above = dirname(above)) missing.unshift(basename(above));
  let within = await holdFolder(above);
  try {
    for (const name of missing) {
      const made = join(within.at, name);
      await mkdir(made, { mode: 0o700 });
      const handle = await open(made, FOLDER | constants.O_NOFOLLOW);
      await within.handle.close();
      within = held(handle, made);
      await handle.chmod(0o755);
    }
  } finally {
    await within.handle.close();
  }
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return false;
      throw error;
    },
  );

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
