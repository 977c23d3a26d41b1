import fc from "fast-check";
import { expect, test } from "vitest";
import { latestMoment, measure, reportOf } from "../../src/domain/recoveryReport.js";
import type { Runbook } from "../../src/domain/runbook.js";
import { advance, NOTHING, type RunEvent, type RunState } from "../../src/domain/runbookRun.js";

const INCIDENT = "2026-11-26T03:00:00.000Z";

test.each(["the end of the WAL", "0/3000028", "before-migration 5", "latest", "2h", "", null, 7])(
  "%j is no time, and spoils none",
  (text) => {
    expect(latestMoment([text])).toBeNull();
    expect(latestMoment([text, INCIDENT, text])).toBe(INCIDENT);
  },
);

test("times are compared as times, whoever wrote them", () => {
  expect(latestMoment(["2026-11-26 02:59:00.5+00", "2026-11-26T01:00:00Z"])).toBe("2026-11-26T02:59:00.500Z");
  fc.assert(
    fc.property(
      fc.array(fc.date({ noInvalidDate: true, min: new Date(0), max: new Date("9999-01-01") }), {
        minLength: 1,
      }),
      (dates) => {
        const latest = new Date(Math.max(...dates.map((one) => one.getTime())));
        const texts = dates.map((one, at) => {
          const iso = one.toISOString();
          return at % 2 === 0 ? iso : iso.replace("T", " ").replace("Z", "+00");
        });
        expect(latestMoment(texts)).toBe(latest.toISOString());
      },
    ),
  );
});

const book = { name: "book", title: "", backAfter: null, steps: [{ name: "restore" }] } as unknown as Runbook;
const events = (recoveredTo: string | null): RunEvent[] => [
  {
    at: INCIDENT,
    type: "started",
    run: "r",
    runbook: "book",
    hash: "h",
    isDrill: false,
    values: {},
    incidentAt: INCIDENT,
    by: "ann",
  },
  {
    at: INCIDENT,
    type: "step-finished",
    step: "restore",
    outcome: "done",
    durationMs: 1,
    error: null,
    evidence: [{ what: "w", text: "t", facts: { recoveredTo } }],
  },
];
const missedAfter = (recoveredTo: string | null) => {
  const state = events(recoveredTo).reduce<RunState>(advance, NOTHING);
  const measured = measure(book, state, "2026-11-26T03:10:00.000Z");
  const ended = advance(state, {
    at: "2026-11-26T03:10:00.000Z",
    type: "ended",
    status: "succeeded",
    ...measured,
  });
  const { missed } = reportOf(book, ended, { rtoMs: 3_600_000, rpoMs: 300_000 });
  return { rpoMs: measured.rpoMs, missed };
};

test("work that was lost is measured and judged; what names no time leaves it unmeasured", () => {
  expect(missedAfter("2026-11-26T02:58:00.000Z")).toEqual({ rpoMs: 120_000, missed: [] });
  expect(missedAfter("2026-11-26T01:00:00.000Z")).toEqual({ rpoMs: 7_200_000, missed: ["rpo"] });
  expect(missedAfter("the end of the WAL")).toEqual({ rpoMs: null, missed: [] });
});
