import { extentsBetween } from "../../domain/fileMap.js";
import type { FileThreads } from "../../format/format.js";
import type { Placed } from "./finishing.js";
import type { WantedRuns } from "./runs.js";

/** Files whose comparison may be waiting: the list of the others is read meanwhile. */
const AHEAD = 16;

/** Compares files that are there with what they should be, several at a time, and asks for what differs. */
export class Comparison {
  /** Bytes that are there and right. */
  rightBytes = 0;
  readonly #threads: FileThreads;
  readonly #key: Uint8Array;
  readonly #wanted: WantedRuns;
  readonly #running = new Set<Promise<void>>();

  constructor(threads: FileThreads, key: Uint8Array, wanted: WantedRuns) {
    this.#threads = threads;
    this.#key = key;
    this.#wanted = wanted;
  }

  /** Waits only while many others are under way. */
  async add(number: number, placed: Placed, tags: Buffer): Promise<void> {
    const compared = this.#compare(number, placed, tags);
    this.#running.add(compared);
    // one that failed stays, for whoever waits next
    compared.then(
      () => this.#running.delete(compared),
      () => undefined,
    );
    while (this.#running.size > AHEAD) await Promise.race(this.#running);
  }

  async end(): Promise<void> {
    await Promise.all(this.#running);
  }

  async #compare(number: number, { path, record }: Placed, tags: Buffer): Promise<void> {
    const { size, block, at } = record;
    const { right, parts } = await this.#threads.compare({ path, size, block, tags, key: this.#key });
    for (const [from, to] of parts) this.#wanted.add(number, from, extentsBetween(at, from, to));
    this.rightBytes += right;
  }
}
