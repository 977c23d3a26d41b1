import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { answerOf, textOf } from "../../../src/cli/commands/drRun.js";
import { parseRunbook } from "../../../src/config/runbooks.js";
import type { RecoveryReport } from "../../../src/domain/recoveryReport.js";
import { type ActContext, act, rowsChanged } from "../../../src/engine/dr/act.js";
import { missingVariables, valuesFor } from "../../../src/engine/dr/prepare.js";
import type { Site } from "../../../src/engine/site.js";

const file = join(import.meta.dirname, "../../../runbooks/tenant-lost.yaml");
const { runbook } = parseRunbook({ file, text: readFileSync(file, "utf8"), hash: "h" });
const site = { config: { site: "shop" } } as unknown as Site;

const wish = (isDrill: boolean, given: string[]) => ({
  runbook,
  isDrill,
  given,
  incidentAt: new Date("2026-11-26T03:00:00Z"),
  run: "r",
  folder: "/f",
  scratch: isDrill ? "/scratch" : null,
  database: "shop",
});

test("a tenant is brought back to a moment that somebody names: the newest one holds the damage", () => {
  expect(missingVariables(wish(false, ["tenant=a"])).map(({ name }) => name)).toEqual(["to"]);
  expect(() => valuesFor(site, wish(false, ["tenant=a"]))).toThrow(
    /^the runbook tenant-lost needs to \(the last moment at which all was well/,
  );
  expect(missingVariables(wish(true, ["tenant=a"]))).toEqual([]);
  expect(valuesFor(site, wish(true, ["tenant=a"]))).toMatchObject({ to: "latest" });
  expect(valuesFor(site, wish(true, ["tenant=a", "to=2026-11-25T00:00:00Z"]))).toMatchObject({
    to: "2026-11-25T00:00:00Z",
  });
});

const table = (inserted: number, deleted = 0) => ({
  table: "t",
  inserted,
  updated: 0,
  deleted,
  unchanged: 9,
});

test("rows are counted in a plan, in several plans and in an answer, those that go too", () => {
  expect(rowsChanged({ tables: [table(0), table(0)] })).toBe(0);
  expect(rowsChanged({ tables: [table(1), table(0, 2)] })).toBe(3);
  expect(rowsChanged({ plans: [{ tables: [table(0)] }, { tables: [table(4)] }] })).toBe(4);
});

const contextOf = (answer: unknown, isDrill = false): ActContext =>
  ({
    site: { signal: new AbortController().signal, redact: (value: unknown) => value },
    ground: {
      isDrill,
      admit: () => undefined,
      jbackup: async () => ({ stdout: JSON.stringify(answer), stderr: "", code: 0, signal: null }),
    },
    step: "restore",
    run: "r",
    watcher: { onStart: () => undefined, onErrorLine: () => undefined },
  }) as unknown as ActContext;
const words = ["--tenant", "a", "--to", "2026-11-26T02:00:00Z"];

test("a plan that would change no row stops a recovery, and no drill", async () => {
  const plan = { tables: [table(0)] };
  const rehearse = (isDrill: boolean) =>
    act({ kind: "restore", words: [...words, "--dry-run"] }, contextOf(plan, isDrill));
  await expect(rehearse(false)).rejects.toMatchObject({
    code: "verification_failed",
    message: "no row would be changed: what is there now is what was there at that moment",
    hint: "end this run with jbackup dr run --abort, and begin again with a moment before the damage",
  });
  await expect(rehearse(true)).resolves.toMatchObject({ text: "done" });
});

test("a restore that changed no row says so, in its evidence and in the result", async () => {
  const evidence = await act({ kind: "restore", words }, contextOf({ tables: [table(0)] }));
  expect(evidence.text).toMatch(/^done, and no row was changed/);
  const step = { name: "restore", status: "done", durationMs: 1, evidence: [evidence] };
  const report = {
    id: "r",
    runbook: "own",
    drill: false,
    status: "succeeded",
    rtoMs: 1_000,
    rpoMs: null,
    missed: [],
    steps: [step],
  } as unknown as RecoveryReport;
  const end = { report, path: "/report.md", error: null };
  expect(textOf(end)).toMatch(/^own went to its end, and brought nothing back: restore changed no row\./);
  expect(answerOf(end)).toMatchObject({ changedNothing: ["restore"] });
});

test("how far a restore came is a time, whatever else its answer says of the target", async () => {
  const latest = ["--tenant", "a", "--to", "latest"];
  const answer = {
    tables: [table(1)],
    targetTime: "the end of the WAL",
    metadata: { lastCommitAt: "2026-11-26 01:59:00+00" },
    window: { to: { at: "2026-11-26T02:00:00.000Z" } },
  };
  const { facts } = await act({ kind: "restore", words: latest }, contextOf(answer));
  expect(facts).toMatchObject({ recoveredTo: "2026-11-26T02:00:00.000Z", changedRows: 1 });
  const byName = { ...answer, targetTime: "before-migration" };
  const there = await act({ kind: "restore", words: ["--to", "before-migration"] }, contextOf(byName));
  expect(there.facts).toMatchObject({ recoveredTo: "2026-11-26T01:59:00.000Z" });
});
