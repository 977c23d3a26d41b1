import { constants, type FileHandle, mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";

const isLinux = process.platform === "linux";
const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY;

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

  /** The same for programs that this process starts. */
  atForOthers(name: string): string {
    return isLinux ? `/proc/${process.pid}/fd/${this.#handle.fd}/${name}` : join(this.path, name);
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
