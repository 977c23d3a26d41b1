import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError, reasonOf } from "../domain/errors.js";
import { makeDirectory } from "../sys/atomicFile.js";
import type { Clock } from "../sys/clock.js";
import { isFullDisk } from "../sys/systemErrors.js";

export const JOURNAL_SUFFIX = ".jsonl";

/** This process's own journal. Another process may take it away by renaming it, at any moment. */
export class JournalFile {
  readonly #directory: string;
  readonly #clock: Clock;
  #path: string | undefined;
  #count = 0;
  /** What a full disk did not take yet. */
  #waiting = "";

  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
  }

  /** Durable when it resolves with true; where the disk is full the line waits in memory for the next one, or for `flush`. */
  async append(line: string): Promise<boolean> {
    this.#waiting += line;
    try {
      await this.flush();
      return true;
    } catch (error) {
      if (isFullDisk(error instanceof Error ? error.cause : null)) return false;
      this.#waiting = this.#waiting.slice(0, -line.length); // whoever wrote it is told
      throw error;
    }
  }

  get isWaiting(): boolean {
    return this.#waiting !== "";
  }

  /** Durable when it resolves. */
  async flush(): Promise<void> {
    if (this.#waiting === "") return;
    try {
      while (!(await this.#tryAppend(this.#waiting)));
      this.#waiting = "";
    } catch (error) {
      // What was written of the line must stay the last thing in its file.
      this.#path = undefined;
      const message = `the catalog is down and its journal in ${this.#directory} cannot be written: ${reasonOf(error)}`;
      const hint =
        "Make that directory writable or make room on its disk; what is recorded only there gets lost.";
      throw new JBackupError("catalog_unavailable", message, { hint, cause: error });
    }
  }

  /** False: the file was taken away, and whoever took it may have read it before this line was there. */
  async #tryAppend(line: string): Promise<boolean> {
    const file = await this.#openFile();
    if (file === undefined) return false;
    try {
      await file.handle.writeFile(line);
      await file.handle.sync();
      if ((await file.handle.stat()).ino === (await inodeOf(file.path))) return true;
    } finally {
      await file.handle.close();
    }
    this.#path = undefined;
    return false;
  }

  /** Creates a name only once: one that was taken away never comes back. */
  async #openFile(): Promise<{ path: string; handle: FileHandle } | undefined> {
    if (this.#path === undefined) {
      const name = this.#newName();
      await makeDirectory(this.#directory);
      this.#path = join(this.#directory, name);
      const handle = await open(this.#path, "ax", 0o600);
      await syncDirectory(this.#directory);
      return { path: this.#path, handle };
    }
    try {
      return { path: this.#path, handle: await open(this.#path, constants.O_WRONLY | constants.O_APPEND) };
    } catch (error) {
      if (!isMissing(error)) throw error;
      this.#path = undefined;
      return undefined;
    }
  }
  /** Names sort by age. */
  #newName(): string {
    const time = this.#clock.now().toISOString().replaceAll(/[-:.]/g, "");
    const count = String(this.#count++).padStart(6, "0");
    return `${time}-${count}-${process.pid}-${randomBytes(4).toString("hex")}${JOURNAL_SUFFIX}`;
  }
}

/** New and renamed files outlive a power cut only when their directory was synced too. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";

async function inodeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).ino;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
