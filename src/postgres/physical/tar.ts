import { JBackupError } from "../../domain/errors.js";

export interface TarEntry {
  name: string;
  kind: "file" | "folder" | "link";
  mode: number;
  size: number;
  /** Fills as much of the buffer as the entry still has; answers how many bytes that were. */
  readInto(buffer: Buffer): Promise<number>;
}

const RECORD_BYTES = 512;
const KINDS: Record<string, TarEntry["kind"]> = { "0": "file", "\0": "file", "5": "folder", "2": "link" };

/**
 * The entries of a tar archive as PostgreSQL writes it (ustar, sizes beyond 8 GB in base 256). Strict: what does not add up is
 * an error. What is not read of an entry is passed over when the next one is asked for.
 */
export async function* tarEntries(chunks: AsyncIterable<Buffer>): AsyncGenerator<TarEntry> {
  const bytes = new ByteQueue(chunks);
  const head = Buffer.alloc(RECORD_BYTES);
  for (;;) {
    const got = await bytes.readInto(head);
    // the server leaves out the two empty records at the end in some versions
    if (got === 0) return;
    if (got < RECORD_BYTES) throw badTar("it ends inside a header");
    if (head.every((byte) => byte === 0)) {
      await bytes.requireZeros();
      return;
    }
    const { name, kind, mode, size } = parseHead(head);
    let left = size;
    yield {
      name,
      kind,
      mode,
      size,
      readInto: async (buffer) => {
        const read = await bytes.readInto(buffer.subarray(0, Math.min(left, buffer.length)));
        if (read < Math.min(left, buffer.length)) throw badTar(`it ends inside ${name}`);
        left -= read;
        return read;
      },
    };
    const padding = (RECORD_BYTES - (size % RECORD_BYTES)) % RECORD_BYTES;
    if ((await bytes.skip(left + padding)) < left + padding) throw badTar(`it ends inside ${name}`);
  }
}

function parseHead(head: Buffer): Pick<TarEntry, "name" | "kind" | "mode" | "size"> {
  if (head.toString("latin1", 257, 262) !== "ustar") throw badTar("a header is not that of a tar archive");
  const name = textIn(head, 0, 100);
  if (numberIn(head, 148, 8) !== checksumOf(head)) throw badTar(`the header of ${name} is damaged`);
  const kind = KINDS[String.fromCharCode(head[156] as number)];
  if (kind === undefined) throw badTar(`${name} is of an unknown kind`);
  const prefix = textIn(head, 345, 155);
  const size = kind === "file" ? numberIn(head, 124, 12) : 0;
  return {
    name: prefix === "" ? name : `${prefix}/${name}`,
    kind,
    mode: numberIn(head, 100, 8) & 0o7777,
    size,
  };
}

const textIn = (head: Buffer, at: number, length: number): string => {
  const field = head.subarray(at, at + length);
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end === -1 ? length : end);
};

function numberIn(head: Buffer, at: number, length: number): number {
  if ((head[at] as number) === 0x80) {
    const value = head.subarray(at + 1, at + length).reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw badTar("a size in it is too large");
    return Number(value);
  }
  const digits = head
    .toString("latin1", at, at + length)
    .replace(/[\0 ]+$/, "")
    .trim();
  if (!/^[0-7]+$/.test(digits)) throw badTar("a number in a header is no number");
  return Number.parseInt(digits, 8);
}

/** The sum of the header's bytes, with its own field as spaces. */
const checksumOf = (head: Buffer): number =>
  head.reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 32 : byte), 0);

const badTar = (why: string): JBackupError =>
  new JBackupError("postgres_failed", `the server's base backup cannot be read: ${why}`);

/** Bytes in the order of their arrival, whatever pieces they come in. */
class ByteQueue {
  readonly #chunks: AsyncIterator<Buffer>;
  #chunk: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async readInto(buffer: Buffer): Promise<number> {
    let done = 0;
    while (done < buffer.length && (await this.#hasMore())) {
      const part = this.#chunk.subarray(0, buffer.length - done);
      buffer.set(part, done);
      done += part.length;
      this.#chunk = this.#chunk.subarray(part.length);
    }
    return done;
  }

  async skip(count: number): Promise<number> {
    let done = 0;
    while (done < count && (await this.#hasMore())) {
      const length = Math.min(count - done, this.#chunk.length);
      done += length;
      this.#chunk = this.#chunk.subarray(length);
    }
    return done;
  }

  async requireZeros(): Promise<void> {
    while (await this.#hasMore()) {
      if (!this.#chunk.every((byte) => byte === 0)) throw badTar("something follows its end");
      this.#chunk = Buffer.alloc(0);
    }
  }

  async #hasMore(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      const next = await this.#chunks.next();
      if (next.done) return false;
      this.#chunk = next.value;
    }
    return true;
  }
}
