import type { ObjectSource } from "./open.js";

interface Kept {
  start: number;
  end: number;
  bytes: Buffer;
}

/** An object of which parts are kept in memory once they were read: a storage is asked for no byte of them again. */
export class AskedOnce implements ObjectSource {
  readonly bytes: number;
  readonly #source: ObjectSource;
  /** In the order of the object. */
  #kept: Kept[] = [];

  constructor(source: ObjectSource) {
    this.bytes = source.bytes;
    this.#source = source;
  }

  /** Meant for its beginning and its end, which tell where the rest is. */
  async keep(start: number, end: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.read(start, end)) chunks.push(chunk);
    const bytes = Buffer.concat(chunks);
    this.#kept = [...this.#kept, { start, end: start + bytes.length, bytes }].toSorted(
      (a, b) => a.start - b.start,
    );
    return bytes;
  }

  async *read(start: number, end: number): AsyncGenerator<Uint8Array> {
    let at = start;
    for (const kept of this.#kept) {
      const from = Math.max(at, kept.start);
      const to = Math.min(end, kept.end);
      if (from >= to) continue;
      if (at < from) yield* this.#source.read(at, from);
      yield kept.bytes.subarray(from - kept.start, to - kept.start);
      at = to;
    }
    if (at < end) yield* this.#source.read(at, end);
  }
}
