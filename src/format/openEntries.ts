import type { Entry, Segment } from "../domain/manifest.js";
import { ByteReader } from "./byteReader.js";
import { type EntryOptions, verifiedEntry } from "./contents.js";
import { objectFault } from "./faults.js";
import { packContext } from "./layout.js";
import { openSealed } from "./open.js";

export interface OpenedEntry {
  entry: Entry;
  /** To be read, or left, before the next entry is asked for. Ends without an error only if the entry is whole. */
  content: AsyncIterable<Buffer>;
}

/**
 * Many entries in one pass: each pack is read and opened once, however many small files share it. Entries should come in
 * the order of the contents; any other order works, but opens packs again.
 */
export async function* openEntries(
  entries: Iterable<Entry>,
  options: EntryOptions,
): AsyncGenerator<OpenedEntry> {
  const cursor = new PackCursor(options);
  try {
    for (const entry of entries)
      yield { entry, content: verifiedEntry(entry, options, (segment) => cursor.read(segment)) };
  } finally {
    await cursor.close();
  }
}

const CHUNK_BYTES = 2 ** 20;

/** A place in one pack, which only moves forward. */
class PackCursor {
  readonly #options: EntryOptions;
  #pack: { name: string; reader: ByteReader; at: number } | undefined;

  constructor(options: EntryOptions) {
    this.#options = options;
  }

  async *read({ object, offset, bytes }: Segment): AsyncGenerator<Buffer> {
    const pack = await this.#seek(object, offset);
    const end = offset + bytes;
    while (pack.at < end) {
      const chunk = await pack.reader.takeSome(Math.min(end - pack.at, CHUNK_BYTES));
      if (chunk.length === 0)
        throw objectFault(
          "object_truncated",
          packContext(this.#options, object),
          `holds ${pack.at} bytes; bytes ${offset} to ${end} were asked for`,
        );
      pack.at += chunk.length;
      if (pack.at > offset) yield chunk.subarray(Math.max(0, chunk.length - (pack.at - offset)));
    }
  }

  async close(): Promise<void> {
    await this.#pack?.reader.close();
    this.#pack = undefined;
  }

  async #seek(name: string, offset: number) {
    if (this.#pack?.name === name && this.#pack.at <= offset) return this.#pack;
    await this.close();
    const source = await this.#options.source(name);
    const content = openSealed(source, this.#options.dataKey, packContext(this.#options, name));
    this.#pack = { name, reader: new ByteReader(content), at: 0 };
    return this.#pack;
  }
}
