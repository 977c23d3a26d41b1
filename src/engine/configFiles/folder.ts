import type { Stats } from "node:fs";
import {
  chmod,
  chown,
  constants,
  type FileHandle,
  lchown,
  lstat,
  lutimes,
  mkdir,
  open,
  utimes,
} from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";

const isLinux = process.platform === "linux";
const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY;
/** Neither reads nor writes, and so opens everything, a link as well. Node has no name for it. */
const O_PATH = 0o10000000;

/**
 * A folder held open. What is done below it is done in this very folder, whatever somebody has made of its path meanwhile:
 * whoever owns a folder of configuration files could else put a link in the way of a restore that root runs.
 */
export class Folder {
  readonly path: string;
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  /** A place that may be believed: links on the way to it are followed. */
  static async open(path: string): Promise<Folder> {
    return new Folder(path, await open(path, FOLDER));
  }

  /** A folder in this one; a link in its place is refused. */
  async enter(name: string): Promise<Folder> {
    try {
      return new Folder(join(this.path, name), await open(this.at(name), FOLDER | constants.O_NOFOLLOW));
    } catch (error) {
      if (!["ELOOP", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
      throw new JBackupError("target_refused", `${join(this.path, name)} is no folder, or a link to one`, {
        hint: "nothing is written through a link: move it out of the way, or restore into a folder with --into-dir",
        cause: error,
      });
    }
  }

  /** A name in this folder, as a path for the calls of this process. */
  at(name: string): string {
    return isLinux ? `/proc/self/fd/${this.#handle.fd}/${name}` : join(this.path, name);
  }

  /** What stands under a name, a link itself and not what it leads to. The caller closes it. */
  async hold(name: string): Promise<Held> {
    if (!isLinux) return new Held(null, this.at(name));
    return new Held(await open(this.at(name), O_PATH | constants.O_NOFOLLOW), this.at(name));
  }

  async make(name: string): Promise<void> {
    await mkdir(this.at(name), { mode: 0o700 });
  }

  sync(): Promise<void> {
    return this.#handle.sync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** A file, folder or link held open: what is changed is this very one, whatever stands under its name meanwhile. */
export class Held {
  readonly #handle: FileHandle | null;
  readonly #path: string;

  constructor(handle: FileHandle | null, path: string) {
    this.#handle = handle;
    this.#path = path;
  }

  stat(): Promise<Stats> {
    return this.#handle === null ? lstat(this.#path) : this.#handle.stat();
  }

  /** Through the descriptor, whose name in /proc leads to what is held and no further. */
  get #own(): string | null {
    return this.#handle === null || !isLinux ? null : `/proc/self/fd/${this.#handle.fd}`;
  }

  own(uid: number, gid: number): Promise<void> {
    return this.#own === null ? lchown(this.#path, uid, gid) : chown(this.#own, uid, gid);
  }

  /** For files and folders. */
  async allow(mode: number): Promise<void> {
    await chmod(this.#own ?? this.#path, mode);
  }

  date(seconds: number): Promise<void> {
    return this.#own === null ? lutimes(this.#path, seconds, seconds) : utimes(this.#own, seconds, seconds);
  }

  /** As a path for programs that this process starts. */
  get forOthers(): string {
    return this.#handle === null || !isLinux ? this.#path : `/proc/${process.pid}/fd/${this.#handle.fd}`;
  }

  async isAt(folder: Folder, name: string): Promise<boolean> {
    const [held, there] = await Promise.all([this.stat(), lstat(folder.at(name))]);
    return held.dev === there.dev && held.ino === there.ino;
  }

  async close(): Promise<void> {
    await this.#handle?.close();
  }
}

/** The folder that holds a path, step by step from a place that may be believed, and the last name. The caller closes it. */
export async function folderOfPath(base: string, below: string): Promise<{ folder: Folder; name: string }> {
  const parts = below.split("/").filter((part) => part !== "");
  const name = parts.pop() ?? "";
  let folder = await Folder.open(base);
  for (const part of parts) {
    const outer = folder;
    try {
      folder = await outer.enter(part);
    } finally {
      await outer.close();
    }
  }
  return { folder, name };
}
