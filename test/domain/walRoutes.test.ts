import { describe, expect, test } from "vitest";
import { parseTimeline, type RecoveryTarget } from "../../src/domain/recoveryTarget.js";
import { historyName, lsnText, parseWalFile, segmentName, type WalFile } from "../../src/domain/wal.js";
import type { WalBase, WalInventory } from "../../src/domain/walCoverage.js";
import { chooseRoute, otherRouteText, routesFrom } from "../../src/domain/walRoutes.js";

const BYTES = 2 ** 20;
const lsn = (segment: number, offset = 0): bigint => BigInt(segment) * BigInt(BYTES) + BigInt(offset);
const clock = (minutes: string): Date => new Date(`2026-11-20T${minutes}:00Z`);
const time = (minutes: string): RecoveryTarget => ({ kind: "time", at: clock(minutes), text: minutes });
const base: WalBase = { timeline: 1, startLsn: lsn(5, 40), endLsn: lsn(5, 400), endsSegment: false };

/** Segments of a timeline, and when each was stored. */
type Stored = [timeline: number, segment: number, at: string];

function inventoryOf(
  segments: Stored[],
  histories: [timeline: number, from: number, at: bigint, stored: string][],
): WalInventory {
  const stored = segments.map(([timeline, number, at]) => ({
    file: parseWalFile(segmentName({ timeline, number: BigInt(number) }, BYTES)) as WalFile,
    modifiedAt: clock(at),
  }));
  const begun = histories.map(([timeline, , , at]) => ({
    file: parseWalFile(historyName(timeline)) as WalFile,
    modifiedAt: clock(at),
  }));
  return {
    segmentBytes: BYTES,
    stored: [...stored, ...begun],
    histories: new Map(histories.map(([timeline, from, at]) => [timeline, [{ timeline: from, at }]])),
  };
}

const chosen = (inventory: WalInventory, target: RecoveryTarget): [number, number[]] => {
  const { route, others } = chooseRoute(routesFrom(inventory, base), target);
  return [route.timeline, others.map(({ timeline }) => timeline)];
};

describe("after a recovery to 10:10, begun at 11:00, of a timeline that was written until 10:40", () => {
  const inventory = inventoryOf(
    [
      [1, 5, "10:05"],
      [1, 6, "10:20"],
      [1, 7, "10:40"],
      [2, 6, "11:00"],
      [2, 7, "11:30"],
    ],
    [[2, 1, lsn(6, 500), "11:00"]],
  );

  test("a moment of the time before is looked for where it was written", () => {
    expect(chosen(inventory, time("10:30"))).toEqual([1, [2]]);
    expect(chosen(inventory, time("11:20"))).toEqual([2, []]);
  });

  test("the plan along the old timeline has its segments, and no history that would lead away from it", () => {
    const { route } = chooseRoute(routesFrom(inventory, base), time("10:30"));
    expect(route.path).toMatchObject({ timelines: [1], isLatest: false, endLsn: lsn(8) });
    expect(route.path.files).toEqual(
      [5, 6, 7].map((number) => segmentName({ timeline: 1, number: BigInt(number) }, BYTES)),
    );
  });

  test("a timeline that is asked for is followed, and one that nothing leads to is refused", () => {
    expect(chosen(inventory, { ...time("10:30"), timeline: 2 })).toEqual([2, [1]]);
    expect(chosen(inventory, { ...time("10:30"), timeline: "latest" })).toEqual([2, [1]]);
    expect(() => chosen(inventory, { ...time("10:30"), timeline: 7 })).toThrow(
      expect.objectContaining({
        code: "target_refused",
        hint: expect.stringContaining("from there 1, 2 can"),
      }),
    );
  });

  test("a position that both have written is taken from the newest, and the other one is told", () => {
    expect(chosen(inventory, { kind: "lsn", lsn: lsnText(lsn(6, 400)) })).toEqual([2, []]);
    expect(chosen(inventory, { kind: "lsn", lsn: lsnText(lsn(6, 600)) })).toEqual([2, [1]]);
    expect(chosen(inventory, { kind: "latest" })).toEqual([2, []]);
  });

  test("the note says how to get there", () => {
    const { others } = chooseRoute(routesFrom(inventory, base), time("10:30"));
    expect(others.map((other) => otherRouteText(time("10:30"), other))).toEqual([
      "timeline 2 leads to 2026-11-20T10:30:00.000Z too, with WAL up to 0/800000: --timeline 2 follows it",
    ]);
  });
});

test("after a promotion the old timeline has nothing of its own: the new one has every moment, also those before it was stored", () => {
  const inventory = inventoryOf(
    [
      [1, 5, "10:05"],
      [2, 6, "11:00"],
    ],
    [[2, 1, lsn(6, 500), "11:00"]],
  );
  for (const at of ["10:03", "10:30", "11:00"]) expect(chosen(inventory, time(at))).toEqual([2, []]);
});

test("a moment behind the last WAL of a primary that was lost belongs to the one that was promoted", () => {
  const inventory = inventoryOf(
    [
      [1, 5, "10:05"],
      [1, 6, "10:20"],
      [2, 6, "11:00"],
    ],
    [[2, 1, lsn(6, 500), "11:00"]],
  );
  expect(chosen(inventory, time("10:30"))).toEqual([2, []]);
  expect(chosen(inventory, time("10:15"))).toEqual([1, [2]]);
});

test("of two recoveries of one timeline each has its own time", () => {
  const inventory = inventoryOf(
    [
      [1, 5, "10:05"],
      [1, 6, "10:20"],
      [1, 7, "10:40"],
      [2, 6, "11:00"],
      [3, 7, "12:00"],
    ],
    [
      [2, 1, lsn(6, 500), "10:50"],
      [3, 1, lsn(7, 500), "11:40"],
    ],
  );
  expect(chosen(inventory, time("10:30"))).toEqual([1, [2, 3]]);
  expect(chosen(inventory, time("10:55"))).toEqual([2, [3]]);
  expect(chosen(inventory, time("11:50"))).toEqual([3, []]);
});

test.each([
  ["1", 1],
  ["26", 26],
  ["0x1a", 26],
  ["0000001A", 26],
  ["latest", "latest"],
])("--timeline %s is understood", (text, timeline) => {
  expect(parseTimeline(text)).toBe(timeline);
});

test.each(["", "0", "-1", "x", "1.5", "99999999999", "00000000"])("--timeline %s is refused", (text) => {
  expect(() => parseTimeline(text)).toThrow("--timeline cannot be");
});
