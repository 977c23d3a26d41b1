import { describe, expect, test } from "vitest";
import {
  historyName,
  parseWalFile,
  segmentName,
  type TimelineSwitch,
  type WalFile,
} from "../../src/domain/wal.js";
import type { WalInventory } from "../../src/domain/walCoverage.js";
import {
  leading,
  lostSpans,
  openHole,
  type Reach,
  reachedFrom,
  rivalOf,
  rivalText,
  strayBase,
  type WindowBase,
  windowOf,
} from "../../src/domain/walWindow.js";

const BYTES = 2 ** 20;
const lsn = (segment: number, offset = 0): bigint => BigInt(segment) * BigInt(BYTES) + BigInt(offset);
const clock = (minutes: string): string => `2026-11-20T${minutes}:00.000Z`;

const place = (megabyte: number) => ({
  at: clock(`10:${String(megabyte).padStart(2, "0")}`),
  lsn: `0/${megabyte.toString(16)}00000`,
});
const reach = (from: number, to: number, more: Partial<Reach> = {}): Reach => ({
  timeline: 1,
  from: place(from),
  to: place(to),
  hole: null,
  ...more,
});

describe("the window", () => {
  test("a base that has no WAL behind it yet leaves it to those before it", () => {
    const [older, newer, fresh] = [reach(10, 40), reach(20, 40), reach(50, 50)];
    const torn = reach(5, 8, { hole: "something" });
    expect(windowOf([fresh, newer, older, torn])).toEqual({ from: older.from, to: older.to });
    expect(windowOf([newer, older])).toEqual({ from: older.from, to: older.to });
    expect(windowOf([fresh])).toEqual({ from: fresh.from, to: fresh.to });
    expect(windowOf([])).toBeNull();
  });

  test("is that of the bases which lead to the newest timeline", () => {
    const [left, first] = [reach(30, 58), reach(10, 33, { timeline: 2 })];
    expect(windowOf([left, first])).toEqual({ from: first.from, to: first.to });
    expect(leading([left, first])).toEqual([first]);
    expect(strayBase([left, first])).toEqual({ stray: left, timeline: 2 });
    expect(strayBase([first, left])).toBeNull();
    expect(strayBase([])).toBeNull();
  });

  test("a hole counts while it is behind the newest base that leads on; before it, it costs the moments in between", () => {
    const [newest, torn, older] = [
      reach(30, 40),
      reach(15, 20, { hole: "here" }),
      reach(10, 20, { hole: "here" }),
    ];
    const oldest = reach(1, 5, { hole: "there" });
    expect(openHole([newest, torn, older, oldest])).toBeNull();
    expect(lostSpans([newest, torn, older, oldest])).toEqual([
      { from: place(20).at, to: place(30).at },
      { from: place(5).at, to: place(10).at },
    ]);
    expect(openHole([torn, older])).toBe("here");
    expect(lostSpans([torn, older])).toEqual([]);
    expect(openHole([reach(50, 60), { ...torn, timeline: 2 }])).toBe("here");
  });
});

type Stored = [timeline: number, segment: number, at: string];

function inventoryOf(segments: Stored[], histories: [number, TimelineSwitch[], string][] = []): WalInventory {
  const named = (name: string, at: string) => ({
    file: parseWalFile(name) as WalFile,
    modifiedAt: new Date(clock(at)),
  });
  return {
    segmentBytes: BYTES,
    stored: [
      ...segments.map(([timeline, number, at]) =>
        named(segmentName({ timeline, number: BigInt(number) }, BYTES), at),
      ),
      ...histories.map(([timeline, , at]) => named(historyName(timeline), at)),
    ],
    histories: new Map(histories.map(([timeline, switches]) => [timeline, switches])),
  };
}

const base = (id: string, segment: number, at: string, timeline = 1): WindowBase => ({
  id,
  label: id,
  endTime: clock(at),
  timeline,
  startLsn: lsn(segment, 40),
  endLsn: lsn(segment, 400),
  endsSegment: true,
});

/** At 11:00 a recovery to the end of segment 6 took over; a full backup was made in segment 7 before that. */
const taken: Stored[] = [
  [1, 5, "10:05"],
  [1, 6, "10:10"],
  [1, 7, "10:20"],
  [1, 8, "10:30"],
  [2, 6, "11:00"],
  [2, 7, "11:05"],
];
const history: [number, TimelineSwitch[], string] = [2, [{ timeline: 1, at: lsn(6, 500) }], "11:00"];
const bases = [base("B", 7, "10:15"), base("A", 5, "10:01")];

describe("after a recovery that took over", () => {
  test("the window leads from the base before it to the newest WAL of the new timeline", () => {
    const { window, bases: reached, holes } = reachedFrom(inventoryOf(taken, [history]), bases);
    expect(window).toMatchObject({
      from: { at: clock("10:01") },
      to: { at: clock("11:05"), lsn: "0/800000" },
    });
    expect(reached.map(({ id, timeline }) => [id, timeline])).toEqual([
      ["B", 1],
      ["A", 2],
    ]);
    expect(holes).toEqual([]);
  });

  const rivalAt = (more: Stored[], fulls: WindowBase[], now = "11:30") =>
    rivalOf(inventoryOf([...taken, ...more], [history]), [...fulls, ...bases], new Date(clock(now)));

  test("what the old timeline holds from before is no rival", () => {
    expect(rivalAt([], [])).toBeNull();
    expect(rivalOf(inventoryOf(taken), bases, new Date(clock("11:30")))).toBeNull();
    // the segment in which it was left may come late, and clocks differ
    expect(rivalAt([[1, 6, "11:20"]], [])).toBeNull();
    expect(rivalAt([[1, 9, "11:01"]], [])).toBeNull();
  });

  test("a segment or a backup that the old server adds is one, until it is two days old", () => {
    const rival = rivalAt([[1, 9, "11:20"]], []);
    expect(rival).toEqual({ timeline: 1, newer: 2, at: new Date(clock("11:20")) });
    expect(rival && rivalText(rival)).toBe(
      "timeline 1 was still written at 2026-11-20T11:20:00.000Z, after timeline 2 had taken over: two servers store into this site",
    );
    expect(rivalAt([], [base("Z", 9, "11:25")])).toMatchObject({ timeline: 1, at: new Date(clock("11:25")) });
    const later = new Date("2026-11-22T11:20:01Z");
    expect(rivalOf(inventoryOf([...taken, [1, 9, "11:20"]], [history]), bases, later)).toBeNull();
  });
});
