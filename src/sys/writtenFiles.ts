import { closeSync, constants, openSync, writeSync } from "node:fs";

const OPEN_MOST = 64;

/** Writes anywhere in any of many files, with few of them open at one time. Waits for each write: for threads of their own. */
export class WrittenFiles {
  readonly #open = new Map<string, number>();

  write(path: string, bytes: Uint8Array, at: number): void {
    const file = this.#take(path);
    try {
      for (let done = 0; done < bytes.length; )
        done += writeSync(file, bytes, done, bytes.length - done, at + done);
    } catch (error) {
      throw Object.assign(error as NodeJS.ErrnoException, { path }); // a write alone does not say where
    }
  }

  close(): void {
    const files = [...this.#open.values()];
    this.#open.clear();
    for (const file of files) closeSync(file);
  }

  #take(path: string): number {
    const known = this.#open.get(path);
    if (known !== undefined) {
      this.#open.delete(path); // and back in: the one used last is the last to go
      this.#open.set(path, known);
      return known;
    }
    const [oldest] = this.#open;
    if (oldest !== undefined && this.#open.size >= OPEN_MOST) {
      this.#open.delete(oldest[0]);
      closeSync(oldest[1]);
    }
    // what is written must not be cut: the file may be half there already
    const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    this.#open.set(path, file);
    return file;
  }
}
