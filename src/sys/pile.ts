import { zstdCompressSync, zstdDecompressSync } from "node:zlib";

/** Packed at once: enough of them that what they have in common costs next to nothing. */
const IN_BUNDLE = 100;

interface Bundle {
  /** The place of its first record. */
  from: number;
  packed: Buffer;
}

interface Placed<Item> {
  place: number;
  item: Item;
}

/**
 * Many records that are alike, kept until somebody asks for them: packed, for as objects they would take twenty times
 * the memory. They come back in the order of their places, as JSON has them, and only a few are unpacked at a time.
 */
export class Pile<Item> implements Iterable<Item> {
  readonly #bundles: Bundle[] = [];
  #open: Placed<Item>[] = [];
  #length = 0;

  /** The more nearly they come in the order of their places, the less is unpacked at a time later. */
  add(place: number, item: Item): void {
    this.#open.push({ place, item });
    this.#length++;
    if (this.#open.length < IN_BUNDLE) return;
    const placed = inOrder(this.#open);
    this.#open = [];
    const packed = zstdCompressSync(Buffer.from(JSON.stringify(placed)));
    this.#bundles.push({ from: placed[0]?.place ?? 0, packed });
  }

  get length(): number {
    return this.#length;
  }

  *[Symbol.iterator](): Generator<Item> {
    const waiting = this.#bundles.toSorted((a, b) => b.from - a.from);
    const opened: Placed<Item>[][] = this.#open.length === 0 ? [] : [inOrder(this.#open).reverse()];
    for (;;) {
      let first = firstOf(opened);
      for (let next = waiting.at(-1); next && !(first && placeOf(first) < next.from); next = waiting.at(-1)) {
        waiting.pop();
        opened.push(unpack<Item>(next).reverse());
        first = firstOf(opened);
      }
      const one = first?.pop();
      if (first === undefined || one === undefined) return;
      if (first.length === 0) opened.splice(opened.indexOf(first), 1);
      yield one.item;
    }
  }

  toJSON(): Item[] {
    return [...this];
  }
}

const inOrder = <Item>(placed: Placed<Item>[]): Placed<Item>[] =>
  placed.toSorted((a, b) => a.place - b.place);

const unpack = <Item>({ packed }: Bundle): Placed<Item>[] =>
  JSON.parse(zstdDecompressSync(packed).toString()) as Placed<Item>[];

const placeOf = (opened: Placed<unknown>[]): number => opened.at(-1)?.place ?? Number.POSITIVE_INFINITY;

/** The one whose next record comes first. Those that are taken next stand at the end. */
const firstOf = <Item>(opened: Placed<Item>[][]): Placed<Item>[] | undefined =>
  opened.reduce<Placed<Item>[] | undefined>(
    (least, one) => (least !== undefined && placeOf(least) <= placeOf(one) ? least : one),
    undefined,
  );
