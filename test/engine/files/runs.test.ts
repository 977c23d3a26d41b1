import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addExtent, type Extent } from "../../../src/domain/fileMap.js";
import { PackRuns, partsToRead, WantedRuns } from "../../../src/engine/files/runs.js";

const BLOCK = 8192;
const PACK_BLOCKS = 16;

interface Block {
  /** The backup that stored it, counted from the first of the chain. */
  backup: number;
  pack: number;
  offset: number;
}

/** Which blocks of which file each backup finds changed; the first one stores them all. */
const chain = fc.record({
  files: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
  changes: fc.array(fc.array(fc.tuple(fc.nat(4), fc.nat(39)), { maxLength: 30 }), { maxLength: 30 }),
});

/** Every backup stores what changed in packs of its own, one block behind the other; answers the files as the newest one has them. */
function newestOf({ files, changes }: { files: number[]; changes: [number, number][][] }): Block[][] {
  const all = files.map((blocks): (Block | null)[] => Array.from({ length: blocks }, () => null));
  const everything = files.flatMap((blocks, file) =>
    Array.from({ length: blocks }, (_, nth): [number, number] => [file, nth]),
  );
  for (const [backup, changed] of [everything, ...changes].entries()) {
    const unique = new Map(changed.map((one) => [one.join("/"), one]));
    let stored = 0;
    for (const [file, nth] of unique.values()) {
      if (nth >= (files[file] ?? 0)) continue;
      const pack = 1 + Math.floor(stored / PACK_BLOCKS);
      (all[file] as (Block | null)[])[nth] = { backup, pack, offset: (stored % PACK_BLOCKS) * BLOCK };
      stored++;
    }
  }
  return all as Block[][];
}

function wantedOf(files: Block[][]): WantedRuns {
  const wanted = new WantedRuns();
  for (const [file, blocks] of files.entries()) {
    const extents: Extent[] = [];
    for (const { backup, pack, offset } of blocks) addExtent(extents, [backup, pack, offset, BLOCK]);
    wanted.add(file, 0, extents);
  }
  return wanted;
}

describe("of a pack", () => {
  const MIB = 2 ** 20;
  const runs = (...places: [offset: number, bytes: number][]): PackRuns => {
    const pack = new PackRuns(1, 1);
    for (const [offset, bytes] of places) pack.add({ offset, bytes, file: 0, at: offset });
    pack.sort();
    return pack;
  };

  test("of which little is alive only that is asked for, also when all of it stands in front", () => {
    const early = runs([0, BLOCK], [MIB, BLOCK]);
    const all = [{ start: 0, end: MIB + BLOCK }];
    expect(partsToRead(early, { bytes: 10 * MIB, rawBytes: 10 * MIB })).toEqual(all);
    expect(partsToRead(early, { bytes: 2.1 * MIB, rawBytes: 8 * MIB })).toEqual(all);
    expect(partsToRead(runs([0, BLOCK], [9 * MIB, BLOCK]), { bytes: 10 * MIB, rawBytes: 10 * MIB })).toEqual([
      { start: 0, end: BLOCK },
      { start: 9 * MIB, end: 9 * MIB + BLOCK },
    ]);
  });

  test("that is small, or mostly alive, all is read at once", () => {
    expect(partsToRead(runs([0, BLOCK]), { bytes: 2 * MIB, rawBytes: 30 * MIB })).toBe(null);
    expect(partsToRead(runs([0, 5 * MIB]), { bytes: 10 * MIB, rawBytes: 10 * MIB })).toBe(null);
    expect(partsToRead(runs([0, 5 * MIB]), { bytes: 4 * MIB, rawBytes: 1 * MIB })).toBe(null);
  });
});

describe("what the restore of the newest of a chain reads", () => {
  test("is every live block once, and no other", () => {
    fc.assert(
      fc.property(chain, (made) => {
        const files = newestOf(made);
        const wanted = wantedOf(files);
        const live = new Map<string, string>();
        for (const [file, blocks] of files.entries())
          for (const [nth, { backup, pack, offset }] of blocks.entries())
            live.set(`${backup}/${pack}/${offset}`, `${file}@${nth * BLOCK}`);
        const read = new Map<string, string>();
        let ranged = 0;
        for (const runs of wanted.packs()) {
          for (let nth = 0; nth < runs.count; nth++) {
            const { offset, bytes, file, at } = runs.run(nth);
            for (let done = 0; done < bytes; done += BLOCK) {
              const key = `${runs.source}/${runs.pack}/${offset + done}`;
              expect(read.has(key)).toBe(false);
              read.set(key, `${file}@${at + done}`);
            }
          }
          for (const { start, end } of runs.ranges(0)) ranged += end - start;
        }
        expect(read).toEqual(live);
        expect(ranged).toBe(live.size * BLOCK);
        expect(wanted.bytes).toBe(ranged);
      }),
    );
  });

  test("comes from each pack in one go: in ranges that are apart, in order, and hold every run whole", () => {
    fc.assert(
      fc.property(chain, fc.constantFrom(0, BLOCK, 3 * BLOCK), (made, close) => {
        const packs = wantedOf(newestOf(made)).packs();
        expect(new Set(packs.map(({ source, pack }) => `${source}/${pack}`)).size).toBe(packs.length);
        for (const runs of packs) {
          const ranges = runs.ranges(close);
          let before = -Infinity;
          for (const { start, end } of ranges) {
            expect(start - before).toBeGreaterThan(close);
            before = end;
          }
          let wanted = 0;
          for (let nth = 0; nth < runs.count; nth++) {
            const { offset, bytes } = runs.run(nth);
            wanted += bytes;
            expect(ranges.filter(({ start, end }) => start <= offset && offset + bytes <= end)).toHaveLength(
              1,
            );
          }
          // what is read over in between is never more than the gaps that are not worth a request
          const spanned = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
          expect(spanned - wanted).toBeLessThanOrEqual(close * runs.count);
        }
      }),
    );
  });
});
