import { expect, test } from "vitest";
import type { Drill, Restore, Verification } from "../../../src/domain/backup.js";
import type { Site } from "../../../src/engine/site.js";
import { rtoStatus } from "../../../src/engine/status/objectives.js";

const site = { config: { objectives: { rtoMs: 3_600_000 } } } as Site;
const drill = (at: string, more: Partial<Drill> = {}): Drill =>
  ({ runbook: "server-lost", drill: true, finishedAt: at, rtoMs: 1, ...more }) as Drill;
const restore = (at: string, more: Partial<Restore> = {}): Restore =>
  ({
    status: "completed",
    mode: "full",
    tenantIds: [],
    metadata: {},
    finishedAt: at,
    durationMs: 2,
    ...more,
  }) as unknown as Restore;
const tested = (at: string, more: Partial<Verification> = {}): Verification =>
  ({ checkedAt: at, durationMs: 30, metadata: { rtoMs: 3 }, ...more }) as Verification;

const last = (known: { drills?: Drill[]; restores?: Restore[]; tests?: Verification[] }) => {
  const { lastMs, source, at } = rtoStatus(site, { drills: [], restores: [], tests: [], ...known });
  return [lastMs, source, at];
};

test("before anything was brought back nothing is known, but the objective", () => {
  expect(rtoStatus(site, { drills: [], restores: [], tests: [] })).toEqual({
    lastMs: null,
    objectiveMs: 3_600_000,
    at: null,
    source: null,
  });
});

test("the newest recovery of the whole tells, whichever way it was made", () => {
  const known = {
    drills: [drill("2026-11-01")],
    restores: [restore("2026-11-02")],
    tests: [tested("2026-11-03")],
  };
  expect(last(known)).toEqual([3, "test restore", "2026-11-03"]);
  expect(last({ ...known, drills: [drill("2026-11-04")] })).toEqual([1, "drill", "2026-11-04"]);
  expect(last({ ...known, drills: [drill("2026-11-04", { drill: false })] })[1]).toBe("recovery");
  expect(last({ ...known, restores: [restore("2026-11-05")] })).toEqual([2, "restore", "2026-11-05"]);
});

test("a test restore counts until the database answered, and as a whole where that was not measured", () => {
  expect(last({ tests: [tested("2026-11-03", { metadata: {} })] })[0]).toBe(30);
});

test("what brings back a part says nothing of the whole, and neither does what did not end", () => {
  expect(
    last({
      drills: [drill("2026-11-04", { runbook: "tenant-lost" }), drill("2026-11-04", { finishedAt: null })],
      restores: [
        restore("2026-11-05", { tenantIds: ["7"] }),
        restore("2026-11-05", { mode: "merge" }),
        restore("2026-11-05", { metadata: { kind: "config" } }),
        restore("2026-11-05", { status: "failed" }),
      ],
    }),
  ).toEqual([null, null, null]);
});
