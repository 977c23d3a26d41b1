import { open } from "node:fs/promises";
import { JBackupError } from "../../domain/errors.js";
import type { MappedFile } from "../../domain/fileMap.js";

export interface Placed {
  path: string;
  record: MappedFile;
}

export interface FinishWish {
  owner: { uid: number; gid: number } | null;
  /** Nothing has to outlast a crash. */
  isThrowaway: boolean;
}

/** Files whose ends are brought onto the disk at one time. */
const AT_ONCE = 8;
/** While others are still written: the threads that wait for the disk are the ones that unpack. */
const AT_ONCE_BESIDE = 2;
/** What a large file may have waiting for the disk: else all of it would be waited for at the very end. */
const FLUSH_EVERY_BYTES = 256 * 2 ** 20;

/** Gives files their length, mode and owner, and brings them onto the disk: each as soon as it is whole, for that waits for the disk. */
export class Finishing {
  readonly #files: readonly Placed[];
  readonly #wish: FinishWish;
  readonly #missing: Float64Array;
  readonly #unflushed: Float64Array;
  readonly #finished = new Set<number>();
  readonly #waiting: number[] = [];
  #running = 0;
  #workers: Promise<void>[] = [];

  constructor(files: readonly Placed[], wish: FinishWish) {
    this.#files = files;
    this.#wish = wish;
    this.#missing = new Float64Array(files.length);
    this.#unflushed = new Float64Array(files.length);
  }

  /** So many bytes of the file are still to be written. */
  expect(file: number, bytes: number): void {
    this.#missing[file] = (this.#missing[file] ?? 0) + bytes;
  }

  /** A block may come twice, from a second storage: then the file is finished once more. */
  wrote(file: number, bytes: number): void {
    this.#finished.delete(file);
    this.#missing[file] = (this.#missing[file] ?? 0) - bytes;
    this.#unflushed[file] = (this.#unflushed[file] ?? 0) + bytes;
    if (!this.#isWhole(file) && (this.#unflushed[file] ?? 0) < FLUSH_EVERY_BYTES) return;
    this.#unflushed[file] = 0;
    this.#waiting.push(file);
    if (this.#running >= AT_ONCE_BESIDE) return;
    const worker = this.#work();
    worker.catch(() => undefined); // told at the end
    this.#workers.push(worker);
  }

  /** Everything that is not finished yet. */
  async end(): Promise<void> {
    await Promise.all(this.#workers);
    const left = [...this.#files.keys()].filter((file) => !this.#finished.has(file))[Symbol.iterator]();
    const worker = async (): Promise<void> => {
      for (const file of left) await this.#finish(file);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }

  async #work(): Promise<void> {
    this.#running++;
    try {
      for (let file = this.#waiting.shift(); file !== undefined; file = this.#waiting.shift()) {
        if (!this.#isWhole(file)) await this.#flush(file);
        else {
          this.#finished.add(file);
          await this.#finish(file);
        }
      }
    } finally {
      this.#running--;
    }
  }

  #isWhole(file: number): boolean {
    return (this.#missing[file] ?? 0) <= 0;
  }

  async #flush(file: number): Promise<void> {
    if (this.#wish.isThrowaway) return;
    const handle = await open((this.#files[file] as Placed).path, "r+");
    try {
      await handle.datasync();
    } finally {
      await handle.close();
    }
  }

  async #finish(file: number): Promise<void> {
    const { path, record } = this.#files[file] as Placed;
    const { owner, isThrowaway } = this.#wish;
    const handle = await open(path, "r+");
    try {
      const { size } = await handle.stat();
      if (size < record.size)
        throw new JBackupError(
          "bug",
          `${path} has ${size} bytes after the restore instead of ${record.size}`,
        );
      if (size > record.size) await handle.truncate(record.size);
      await handle.chmod(record.mode);
      if (owner) await handle.chown(owner.uid, owner.gid);
      if (!isThrowaway) await handle.sync();
    } finally {
      await handle.close();
    }
  }
}
