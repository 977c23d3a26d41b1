import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  openSync,
} from "node:fs";
import { rm } from "node:fs/promises";
import { promisify } from "node:util";
import { JBackupError } from "../../domain/errors.js";
import type { MappedFile } from "../../domain/fileMap.js";
import type { PackRuns } from "./runs.js";

const sync = promisify(fsync);
const datasync = promisify(fdatasync);

export interface Placed {
  path: string;
  record: MappedFile;
}

export interface FinishWish {
  owner: { uid: number; gid: number } | null;
  /** Nothing has to outlast a crash. */
  isThrowaway: boolean;
}

const AS_IT_STANDS = constants.O_RDWR | constants.O_NOFOLLOW;

/** Files whose ends are brought onto the disk at one time. */
const AT_ONCE = 8;
/** While others are still written. */
const AT_ONCE_BESIDE = 4;
/** What a large file may have waiting for the disk: else the disk would idle now, and all of it be waited for at the end. */
const FLUSH_EVERY_BYTES = 64 * 2 ** 20;

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
  #failure: { error: unknown } | null = null;

  constructor(files: readonly Placed[], wish: FinishWish) {
    this.#files = files;
    this.#wish = wish;
    this.#missing = new Float64Array(files.length);
    this.#unflushed = new Float64Array(files.length);
  }

  /** These are still to be written. */
  expect(runs: PackRuns): void {
    for (const [file, bytes] of runs.bytesByFile()) this.#missing[file] = (this.#missing[file] ?? 0) + bytes;
  }

  /** These are written: what is whole now goes onto the disk, while others are still being unpacked. Throws what an earlier one failed with. */
  wrote(runs: PackRuns): void {
    if (this.#failure !== null) throw this.#failure.error;
    for (const [file, bytes] of runs.bytesByFile()) this.#wrote(file, bytes);
  }

  #wrote(file: number, bytes: number): void {
    this.#missing[file] = (this.#missing[file] ?? 0) - bytes;
    this.#unflushed[file] = (this.#unflushed[file] ?? 0) + bytes;
    if (!this.#isWhole(file) && (this.#unflushed[file] ?? 0) < FLUSH_EVERY_BYTES) return;
    this.#unflushed[file] = 0;
    this.#waiting.push(file);
    if (this.#running >= AT_ONCE_BESIDE) return;
    const worker = this.#work();
    worker.catch((error: unknown) => {
      this.#failure ??= { error };
    });
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
    const { path } = this.#files[file] as Placed;
    const opened = openSync(path, AS_IT_STANDS);
    try {
      await this.#keep(path, () => datasync(opened));
    } finally {
      closeSync(opened);
    }
  }

  /** What a disk failed to keep is read back from memory as if it were there: the next run would find it right. So it goes. */
  async #keep(path: string, bring: () => Promise<void>): Promise<void> {
    try {
      await bring();
    } catch (error) {
      await rm(path, { force: true });
      throw Object.assign(error as NodeJS.ErrnoException, { path }); // a sync alone does not say of what
    }
  }

  /** Nothing here waits for the disk but the sync: a trip to another thread for each of the others would cost more than all of them. */
  async #finish(file: number): Promise<void> {
    const { path, record } = this.#files[file] as Placed;
    const { owner, isThrowaway } = this.#wish;
    const opened = openSync(path, AS_IT_STANDS);
    try {
      const { size } = fstatSync(opened);
      if (size < record.size)
        throw new JBackupError(
          "bug",
          `${path} has ${size} bytes after the restore instead of ${record.size}`,
        );
      if (size > record.size) ftruncateSync(opened, record.size);
      fchmodSync(opened, record.mode);
      if (owner) fchownSync(opened, owner.uid, owner.gid);
      if (!isThrowaway) await this.#keep(path, () => sync(opened));
    } finally {
      closeSync(opened);
    }
  }
}
