import type { Extent } from "../../domain/fileMap.js";
import type { Range } from "../../format/format.js";

/** A run of bytes of a pack's content, and the place in a file that it belongs to. */
export interface Run {
  offset: number;
  bytes: number;
  file: number;
  at: number;
}

const FIELDS = 4;

/** The runs wanted of one pack. Millions of them must fit, hence numbers in a row rather than objects. */
export class PackRuns {
  readonly source: number;
  readonly pack: number;
  bytes = 0;
  #numbers: number[] | Float64Array = [];

  constructor(source: number, pack: number) {
    this.source = source;
    this.pack = pack;
  }

  add(run: Run): void {
    (this.#numbers as number[]).push(run.offset, run.bytes, run.file, run.at);
    this.bytes += run.bytes;
  }

  get count(): number {
    return this.#numbers.length / FIELDS;
  }

  run(nth: number): Run {
    const at = nth * FIELDS;
    const [offset = 0, bytes = 0, file = 0, fileAt = 0] = this.#numbers.slice(at, at + FIELDS);
    return { offset, bytes, file, at: fileAt };
  }

  /** To be called when all runs are there: puts them into the order of the pack. */
  sort(): void {
    const numbers = Float64Array.from(this.#numbers);
    const order = Uint32Array.from({ length: this.count }, (_, nth) => nth).sort(
      (a, b) => (numbers[a * FIELDS] as number) - (numbers[b * FIELDS] as number),
    );
    const sorted = new Float64Array(numbers.length);
    order.forEach((from, to) => {
      sorted.set(numbers.subarray(from * FIELDS, (from + 1) * FIELDS), to * FIELDS);
    });
    this.#numbers = sorted;
  }

  /** All of them, four numbers each, in the order of the pack. */
  get numbers(): Float64Array {
    return this.#numbers as Float64Array;
  }

  /** The files that they go to, and how much of them each gets. */
  bytesByFile(): Map<number, number> {
    const found = new Map<number, number>();
    for (let nth = 0; nth < this.count; nth++) {
      const { file, bytes } = this.run(nth);
      found.set(file, (found.get(file) ?? 0) + bytes);
    }
    return found;
  }

  /** The parts of the pack to read: runs that lie close together are read in one go. */
  ranges(closeBytes: number): Range[] {
    const found: Range[] = [];
    for (let nth = 0; nth < this.count; nth++) {
      const { offset, bytes } = this.run(nth);
      const last = found.at(-1);
      if (last !== undefined && offset - last.end <= closeBytes)
        last.end = Math.max(last.end, offset + bytes);
      else found.push({ start: offset, end: offset + bytes });
    }
    return found;
  }
}

/** What is still to be brought, by the pack that it comes from: each pack is read once. */
export class WantedRuns {
  bytes = 0;
  readonly #packs = new Map<string, PackRuns>();

  add(file: number, at: number, extents: readonly Extent[]): void {
    let fileAt = at;
    for (const [source, pack, offset, bytes] of extents) {
      const key = `${source}/${pack}`;
      const runs = this.#packs.get(key) ?? new PackRuns(source, pack);
      this.#packs.set(key, runs);
      runs.add({ offset, bytes, file, at: fileAt });
      fileAt += bytes;
      this.bytes += bytes;
    }
  }

  packs(): PackRuns[] {
    const packs = [...this.#packs.values()].sort((a, b) => a.source - b.source || a.pack - b.pack);
    for (const pack of packs) pack.sort();
    return packs;
  }
}

/** A gap of a frame is cheaper read over than asked around. */
const CLOSE_BYTES = 2 ** 20;
/** Below this a pack is read whole: the requests for its index would cost more. */
const SMALL_PACK_BYTES = 2 * 2 ** 20;
const WORTH_WHOLE = 0.5;

/**
 * The parts of a pack to ask for; null: all of it in one request. `bytes` it has as it is stored; how many when it is opened
 * is estimated, for only the pack itself could tell.
 */
export function partsToRead(runs: PackRuns, pack: { bytes: number; rawBytes: number }): Range[] | null {
  const ranges = runs.ranges(CLOSE_BYTES);
  const wanted = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
  // nothing behind the last run is known, and sealing never makes less out of noise
  const whole = Math.max(ranges.at(-1)?.end ?? 0, pack.bytes, pack.rawBytes);
  return pack.bytes > SMALL_PACK_BYTES && wanted < whole * WORTH_WHOLE ? ranges : null;
}
