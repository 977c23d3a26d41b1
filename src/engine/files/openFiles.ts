import { constants, type FileHandle, open } from "node:fs/promises";

const OPEN_MOST = 128;

interface Slot {
  handle: Promise<FileHandle>;
  users: number;
}

/** Writes anywhere in any of many files, with no more of them open than a process may have. */
export class OpenFiles {
  readonly #pathOf: (file: number) => string;
  readonly #onWritten: (file: number, bytes: number) => void;
  readonly #slots = new Map<number, Slot>();

  constructor(pathOf: (file: number) => string, onWritten: (file: number, bytes: number) => void) {
    this.#pathOf = pathOf;
    this.#onWritten = onWritten;
  }

  async write(file: number, bytes: Uint8Array, at: number): Promise<void> {
    const slot = this.#take(file);
    try {
      const handle = await slot.handle;
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, at + done);
        done += bytesWritten;
      }
    } finally {
      slot.users--;
    }
    this.#onWritten(file, bytes.length);
  }

  async close(): Promise<void> {
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    const closed = await Promise.allSettled(slots.map(async ({ handle }) => (await handle).close()));
    for (const one of closed) if (one.status === "rejected") throw one.reason;
  }

  #take(file: number): Slot {
    const known = this.#slots.get(file);
    if (known) {
      this.#slots.delete(file); // and back in: the one used last is the last to go
      this.#slots.set(file, known);
      known.users++;
      return known;
    }
    this.#makeRoom();
    // what is written must not be cut: the file may be half there already
    const handle = open(this.#pathOf(file), constants.O_RDWR | constants.O_CREAT, 0o600);
    const slot = { handle, users: 1 };
    this.#slots.set(file, slot);
    return slot;
  }

  #makeRoom(): void {
    if (this.#slots.size < OPEN_MOST) return;
    for (const [file, { handle, users }] of this.#slots) {
      if (users > 0) continue;
      this.#slots.delete(file);
      void handle.then((opened) => opened.close());
      return;
    }
  }
}
