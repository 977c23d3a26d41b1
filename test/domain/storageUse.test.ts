import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseBytes } from "../../src/domain/bytes.js";
import {
  daysUntilFull,
  everyDay,
  filledPercent,
  fullnessOf,
  growthOf,
  type StorageDay,
} from "../../src/domain/storageUse.js";

const days = (...bytes: number[]): StorageDay[] =>
  bytes.map((value, at) => ({
    day: new Date(Date.UTC(2026, 9, 25 + at)).toISOString().slice(0, 10),
    bytes: value,
  }));

describe("the use of a storage", () => {
  it("stays what it was on days without a change, also when the clock changes in some zone", () => {
    const filled = everyDay(
      [
        { day: "2026-10-24", bytes: 10 },
        { day: "2026-10-27", bytes: 40 },
      ],
      "2026-10-28",
      4,
    );
    expect(filled).toEqual([
      { day: "2026-10-25", bytes: 10 },
      { day: "2026-10-26", bytes: 10 },
      { day: "2026-10-27", bytes: 40 },
      { day: "2026-10-28", bytes: 40 },
    ]);
  });

  it("has no growth while a few days are all that is known", () => {
    expect(growthOf(days(1, 2, 3))).toBeNull();
    expect(growthOf(days(10, 20, 30, 40))).toBe(10);
  });

  it("has the same growth whatever one day did", () =>
    fc.assert(
      fc.property(fc.nat({ max: 20 }), fc.integer({ min: 0, max: 1_000_000 }), (at, odd) => {
        const steady = Array.from({ length: 21 }, (_, day) => 1_000 + day * 50);
        const grown = growthOf(days(...steady.with(at, odd))) ?? 0;
        expect(Math.abs(grown - 50)).toBeLessThanOrEqual(5);
      }),
    ));

  it("does not grow by a single jump, as when a catalog is read back", () => {
    expect(
      growthOf(days(0, 0, 0, 0, 0, 0, 0, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900, 900)),
    ).toBe(0);
  });

  it("is full when what is free has been used up", () => {
    expect(daysUntilFull(100, 30)).toBe(3);
    expect(daysUntilFull(-5, 30)).toBe(0);
    expect([
      daysUntilFull(null, 3),
      daysUntilFull(3, null),
      daysUntilFull(3, 0),
      daysUntilFull(3, -2),
    ]).toEqual([null, null, null, null]);
    expect(filledPercent(10, 100)).toBe(90);
    expect(filledPercent(10, null)).toBeNull();
  });

  it.each([
    [89, 7, "fine"],
    [90, null, "filling"],
    [null, 6, "filling"],
    [97, null, "nearly_full"],
    [50, 1, "nearly_full"],
    [null, null, "fine"],
  ])("%s percent, %s days: %s", (percent, left, fullness) => {
    expect(fullnessOf(percent, left)).toBe(fullness);
  });
});

it.each([
  ["500GB", 500e9],
  ["1.5 TiB", 1.5 * 2 ** 40],
  ["10kB", 10_000],
  ["0B", 0],
  ["500", null],
  ["-1GB", null],
  ["5 XB", null],
  ["", null],
])("%s is so many bytes", (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});
