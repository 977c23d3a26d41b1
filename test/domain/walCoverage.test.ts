import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  historyName,
  parseHistory,
  parseWalFile,
  pieceName,
  segmentName,
  type TimelineSwitch,
  type WalFile,
} from "../../src/domain/wal.js";
import {
  holesOf,
  pathFrom,
  piecesToJoin,
  stretchesOf,
  type WalBase,
  type WalInventory,
} from "../../src/domain/walCoverage.js";

const BYTES = 2 ** 20;
const at = new Date("2026-11-20T00:00:00Z");
const lsn = (segment: number, offset = 0): bigint => BigInt(segment) * BigInt(BYTES) + BigInt(offset);
const named = (number: number, timeline = 1): string =>
  segmentName({ timeline, number: BigInt(number) }, BYTES);

function inventoryOf(names: string[], histories: [number, TimelineSwitch[]][] = []): WalInventory {
  const stored = names.map((name) => ({ file: parseWalFile(name) as WalFile, modifiedAt: at }));
  return { segmentBytes: BYTES, stored, histories: new Map(histories) };
}

const base = (segment: number, more: Partial<WalBase> = {}): WalBase => ({
  timeline: 1,
  startLsn: lsn(segment, 40),
  endLsn: lsn(segment, 400),
  endsSegment: false,
  ...more,
});

/** Numbers of segments, each once. */
const numbers = fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 40 });

describe("stretches and holes", () => {
  test("together are exactly what lies between the first and the last segment", () => {
    fc.assert(
      fc.property(numbers, (found) => {
        const stretches = stretchesOf(inventoryOf(found.map((number) => named(number))));
        const holes = holesOf(stretches);
        const covered = (number: number): boolean =>
          stretches.some(({ from, to }) => from <= lsn(number) && lsn(number + 1) <= to);
        for (let number = Math.min(...found); number <= Math.max(...found); number++) {
          expect(covered(number)).toBe(found.includes(number));
          const isHole = holes.some(({ from, to }) => from <= lsn(number) && lsn(number + 1) <= to);
          expect(isHole).toBe(!found.includes(number));
        }
        expect(holes).toHaveLength(stretches.length - 1);
      }),
    );
  });

  test("do not depend on the order in which files are listed", () => {
    fc.assert(
      fc.property(
        numbers.chain((found) =>
          fc.tuple(fc.constant(found), fc.shuffledSubarray(found, { minLength: found.length })),
        ),
        ([found, shuffled]) => {
          const of = (list: number[]) => stretchesOf(inventoryOf(list.map((number) => named(number))));
          expect(of(shuffled)).toEqual(of(found));
        },
      ),
    );
  });

  test("are told for each timeline on its own", () => {
    const stretches = stretchesOf(inventoryOf([named(1), named(2), named(4), named(9, 2), named(10, 2)]));
    expect(stretches.map(({ timeline, from, to }) => [timeline, from, to])).toEqual([
      [1, lsn(1), lsn(3)],
      [1, lsn(4), lsn(5)],
      [2, lsn(9), lsn(11)],
    ]);
    expect(holesOf(stretches)).toEqual([{ timeline: 1, from: lsn(3), to: lsn(4) }]);
  });
});

describe("pieces", () => {
  /** Pieces anywhere in a segment, overlapping or not. */
  const pieces = fc.array(
    fc
      .tuple(fc.nat(60), fc.integer({ min: 1, max: 30 }))
      .map(([from, length]) => ({ from, to: from + length })),
    { maxLength: 12 },
  );
  const files = (found: { from: number; to: number }[]) =>
    found.map(
      ({ from, to }) => parseWalFile(pieceName(named(1), from, to)) as Extract<WalFile, { kind: "piece" }>,
    );

  test("join to the longest run from the beginning, each byte once", () => {
    fc.assert(
      fc.property(pieces, (found) => {
        const joined = piecesToJoin(files(found));
        let reach = 0;
        for (let grown = true; grown; ) {
          grown = false;
          for (const { from, to } of found)
            if (from <= reach && to > reach) {
              reach = to;
              grown = true;
            }
        }
        expect(joined.at(-1)?.to ?? 0).toBe(reach);
        let end = 0;
        for (const { name, from, skip, to } of joined) {
          expect(from).toBe(end);
          expect(name).toBe(pieceName(named(1), from - skip, to));
          end = to;
        }
      }),
    );
  });

  test("cover as much as can be joined of them", () => {
    fc.assert(
      fc.property(pieces, (found) => {
        const joined = piecesToJoin(files(found)).at(-1)?.to ?? 0;
        const stretches = stretchesOf(
          inventoryOf(found.map(({ from, to }) => pieceName(named(1), from, to))),
        );
        expect(stretches.map(({ from, to }) => to - from)).toEqual(joined === 0 ? [] : [BigInt(joined)]);
      }),
    );
  });
});

describe("the path from a base", () => {
  test("goes through every segment from the base's start to the first that is missing", () => {
    fc.assert(
      fc.property(numbers, fc.integer({ min: 1, max: 40 }), (found, start) => {
        const path = pathFrom(inventoryOf(found.map((number) => named(number))), base(start));
        let end = start;
        while (found.includes(end)) end++;
        expect(path.files).toEqual(Array.from({ length: end - start }, (_, nth) => named(start + nth)));
        expect(path.endLsn).toBe(end === start ? lsn(start, 400) : lsn(end));
        const behind = found.filter((number) => number > end).sort((a, b) => a - b)[0];
        expect(path.hole?.to).toBe(behind === undefined ? undefined : lsn(behind));
      }),
    );
  });

  test("never says less when more is stored", () => {
    fc.assert(
      fc.property(
        numbers,
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 40 }),
        (found, start, more) => {
          const without = pathFrom(inventoryOf(found.map((number) => named(number))), base(start));
          const with_ = pathFrom(
            inventoryOf([...new Set([...found, more])].map((number) => named(number))),
            base(start),
          );
          expect(with_.endLsn >= without.endLsn).toBe(true);
        },
      ),
    );
  });

  test("ends inside a segment of which there are pieces only", () => {
    const path = pathFrom(
      inventoryOf([named(5), pieceName(named(6), 0, 70_000), pieceName(named(6), 70_000, 90_000)]),
      base(5),
    );
    expect(path).toMatchObject({ files: [named(5), named(6)], endLsn: lsn(6, 90_000), hole: null });
  });

  test("needs nothing of what the base brings along", () => {
    const path = pathFrom(inventoryOf([named(7)]), base(5, { endLsn: lsn(6, 400), endsSegment: true }));
    expect(path).toMatchObject({ files: [named(7)], endLsn: lsn(8), hole: null });
    // of the segment in which a standby's backup ends there is only what the backup says
    const begun = pathFrom(inventoryOf([named(5)]), base(5, { endLsn: lsn(7, 400) }));
    expect(begun).toMatchObject({ files: [named(5)], endLsn: lsn(7, 400), hole: null });
    const alone = pathFrom(inventoryOf([]), base(5, { endLsn: lsn(6, 400), endsSegment: true }));
    expect(alone).toMatchObject({ files: [], endLsn: lsn(7), hole: null, until: null });
  });
});

describe("timelines", () => {
  const first: [number, TimelineSwitch[]] = [2, [{ timeline: 1, at: lsn(8, 500) }]];

  test("are followed from where each was left", () => {
    const path = pathFrom(
      inventoryOf(
        [6, 7, 8]
          .map((one) => named(one))
          .concat(
            [8, 9, 10].map((one) => named(one, 2)),
            historyName(2),
          ),
        [first],
      ),
      base(6),
    );
    expect(path).toMatchObject({
      timelines: [1, 2],
      files: [historyName(2), named(6), named(7), named(8, 2), named(9, 2), named(10, 2)],
      endLsn: lsn(11),
      hole: null,
    });
  });

  test("what was written on a timeline after it was left is no part of the path, and no hole", () => {
    const path = pathFrom(
      inventoryOf([...[6, 7, 8, 9, 10, 11].map((one) => named(one)), named(8, 2)], [first]),
      base(6),
    );
    expect(path).toMatchObject({
      files: [historyName(2), named(6), named(7), named(8, 2)],
      endLsn: lsn(9),
      hole: null,
    });
  });

  test("a timeline that left before the base's end is another future", () => {
    const path = pathFrom(
      inventoryOf([...[9, 10].map((one) => named(one)), named(8, 2), named(9, 2)], [first]),
      base(9),
    );
    expect(path).toMatchObject({ timelines: [1], files: [named(9), named(10)], endLsn: lsn(11) });
  });

  test("a hole before the switch is a hole, wherever the next stored segment lies", () => {
    const path = pathFrom(inventoryOf([named(6), named(8, 2), named(9, 2)], [first]), base(6));
    expect(path.endLsn).toBe(lsn(7));
    expect(path.hole).toMatchObject({ from: lsn(7), to: lsn(8) });
  });

  test("many in a row are crossed, their numbers read as hexadecimal", () => {
    const switches = (timeline: number): TimelineSwitch[] =>
      Array.from({ length: timeline - 1 }, (_, nth) => ({ timeline: nth + 1, at: lsn(5 + nth, 100) }));
    const newest = 11;
    const histories = Array.from({ length: newest - 1 }, (_, nth): [number, TimelineSwitch[]] => [
      nth + 2,
      switches(nth + 2),
    ]);
    const names = Array.from({ length: newest }, (_, nth) => named(5 + nth, nth + 1));
    const path = pathFrom(inventoryOf(names, histories), base(5, { endLsn: lsn(5, 50) }));
    expect(path.timelines).toEqual(Array.from({ length: newest }, (_, nth) => nth + 1));
    expect(path.files.at(-1)).toBe(`0000000B${names.at(-1)?.slice(8)}`);
    expect(path.endLsn).toBe(lsn(5 + newest));
  });

  test("histories are read as PostgreSQL writes them", () => {
    const text =
      "1\t0/3000148\tno recovery target specified\n\n# a remark\n11\tA/BC000000\tbefore 2026-11-20 12:00:00+01\n";
    expect(parseHistory(text)).toEqual([
      { timeline: 1, at: 0x3000148n },
      { timeline: 11, at: 0xa_bc00_0000n },
    ]);
  });
});
