import { describe, expect, test } from "vitest";
import { type Assertion, judgeAssertion } from "../../src/domain/assertion.js";
import { compareTables, exactDifferences, roughDifferences } from "../../src/domain/census.js";
import { htmlText, plainText } from "../../src/domain/document.js";
import { compareTenants } from "../../src/domain/tenantComparison.js";
import {
  missedOf,
  type SignedReport,
  signedText,
  statusOf,
  type TestReport,
} from "../../src/domain/testReport.js";
import { htmlOf, textOf } from "../../src/domain/testReportText.js";

const assertion = (more: Partial<Assertion> = {}): Assertion => ({
  name: "a",
  database: null,
  sql: "select 1",
  ...more,
});

describe("an assertion", () => {
  test.each<[Assertion["expect"] | "nothing", (string | null)[][], boolean, string]>([
    ["nothing", [["t"]], true, "true"],
    ["nothing", [["f"]], false, "false"],
    ["nothing", [["1"]], false, "1"],
    ["nothing", [[null]], false, "null"],
    ["nothing", [], false, "no row"],
    ["nothing", [["t"], ["t"]], false, "more than one row"],
    ["nothing", [["t", "t"]], false, "a row of 2 values, not one"],
    [false, [["f"]], true, "false"],
    [40, [["40"]], true, "40"],
    [40, [["40.00"]], true, "40.00"],
    [0, [[""]], false, ""],
    [0, [[null]], false, "null"],
    [40, [["41"]], false, "41"],
    ["40", [["40.00"]], false, "40.00"],
    ["EUR", [["EUR"]], true, "EUR"],
    [null, [[null]], true, "null"],
    [null, [["null"]], false, "null"],
  ])("that expects %j of %j holds: %j", (expected, rows, holds, seen) => {
    const asked = assertion(expected === "nothing" ? {} : { expect: expected as string });
    expect(judgeAssertion(asked, rows)).toMatchObject({ holds, seen });
  });

  test("shows the beginning of what is long", () => {
    expect(judgeAssertion(assertion({ expect: "x" }), [["y".repeat(1000)]]).seen).toBe(
      `${"y".repeat(200)}...`,
    );
  });
});

describe("rows that were counted", () => {
  const compared = compareTables(
    [
      { table: "same", rows: 5 },
      { table: "fewer", rows: 5 },
      { table: "gone", rows: 5 },
      { table: "emptied", rows: 5_000 },
    ],
    [
      { table: "same", rows: 5 },
      { table: "fewer", rows: 4 },
      { table: "new", rows: 1 },
      { table: "emptied", rows: 0 },
    ],
  );

  test("in the snapshot of the backup must be equal", () => {
    expect(exactDifferences(compared)).toEqual([
      "emptied has 0 rows where 5000 were recorded",
      "fewer has 4 rows where 5 were recorded",
      "gone has no rows where 5 were recorded",
      "new was not in the backup",
    ]);
  });

  test("by the server's estimate must not be gone altogether", () => {
    expect(roughDifferences(compared)).toEqual([
      "emptied is empty, and had about 5000 rows",
      "gone is not there",
    ]);
    const few = compareTables([{ table: "few", rows: 9 }], [{ table: "few", rows: 0 }]);
    expect(roughDifferences(few)).toEqual([]);
  });
});

test("two states of a tenant are compared table by table, without those that are shared", () => {
  const table = (name: string, sha256: string, is = "direct", rows = 1) => ({
    table: name,
    sha256,
    rows,
    class: is as "direct",
    schema: "app",
    name,
    columns: [],
    keyColumns: [],
    bytes: 1,
    entry: name,
  });
  const recovered = [
    table("a", "1"),
    table("b", "2"),
    table("shared", "3", "shared"),
    table("new", "4"),
    table("empty", "5", "direct", 0),
  ];
  const backup = [
    table("a", "1"),
    table("b", "9", "direct", 7),
    table("shared", "8", "shared"),
    table("old", "6"),
  ];
  expect(compareTenants({ tables: recovered }, { tables: backup })).toEqual({
    equal: 1,
    differing: [
      "b (7 rows in the backup, 1 recovered)",
      "new (no rows in the backup, 1 recovered)",
      "old (1 rows in the backup, no such table recovered)",
    ],
    rows: 3,
  });
});

const check = (status: TestReport["checks"][number]["status"]) => ({
  name: "rows",
  what: 'a "what" with <tags> & more',
  status,
  expected: "1",
  seen: "</script><script>alert(1)</script>",
  durationMs: 12,
});

const report = (more: Partial<TestReport> = {}): TestReport => ({
  kind: "test-restore",
  format: 1,
  id: "01a2",
  site: "shop",
  host: "vault",
  by: "ops@vault",
  jbackup: "1.0.0",
  status: "passed",
  startedAt: "2026-11-20T07:00:00.000Z",
  finishedAt: "2026-11-20T07:01:00.000Z",
  durationMs: 60_000,
  backup: {
    id: "01a1",
    label: "full-20261120-020000",
    method: "physical",
    createdAt: "2026-11-20T02:00:00.000Z",
    finishedAt: "2026-11-20T02:01:00.000Z",
    manifestSha256: "ab".repeat(32),
    signer: "jbk1ver",
    madeWith: "jbackup 1.0.0",
    serverVersion: "15.1",
    buildsOn: [],
    bytes: 1_000_000,
  },
  recovery: null,
  storages: [{ name: "local", kind: "local", location: "/b", objects: 3, bytes: 1234 }],
  objectives: { rtoMs: 3_600_000, rpoMs: 300_000 },
  rtoMs: 30_000,
  rpoMs: 400_000,
  missed: ["rpo"],
  unjudged: null,
  checks: [check("passed")],
  tables: [{ table: "app.items", recorded: 40, restored: 41 }],
  rowsRecorded: "estimated",
  timeline: [],
  remarks: [],
  ...more,
});

describe("a report", () => {
  test("fails with one failed check, and when nothing could be checked", () => {
    expect(statusOf([{ status: "passed" }, { status: "noted" }, { status: "skipped" }])).toBe("passed");
    expect(statusOf([{ status: "passed" }, { status: "failed" }])).toBe("failed");
    expect(statusOf([{ status: "skipped" }, { status: "noted" }])).toBe("failed");
    expect(statusOf([])).toBe("failed");
  });

  test("holds against an objective only what was measured", () => {
    const objectives = { rtoMs: 100, rpoMs: 10 };
    expect(missedOf({ rtoMs: 101, rpoMs: 10 }, objectives)).toEqual(["rto"]);
    expect(missedOf({ rtoMs: null, rpoMs: 11 }, objectives)).toEqual(["rpo"]);
    expect(missedOf({ rtoMs: null, rpoMs: null }, objectives)).toEqual([]);
  });

  test("says in text what was met, what was missed, and what is not judged", () => {
    const text = textOf({ report: report(), signature: null });
    expect(text).toContain("Test restore of shop: PASSED\n============================\n");
    expect(text).toContain("(RTO): 30.0 s (objective 1 h 0 min: met)");
    expect(text).toContain("(RPO): 6 min 40 s (objective 5 min 0 s: MISSED)");
    expect(text).toMatch(/^Table +Recorded +Restored\napp\.items +40 +41$/m);
    expect(text).toContain("This report is not signed");
    const unjudged = textOf({ report: report({ missed: [], unjudged: "an older one" }), signature: null });
    expect(unjudged).toMatch(/\(objective 5\s+min\s+0\s+s:\s+not\s+judged:\s+an\s+older\s+one\)/);
  });

  test("is a page that needs nothing else, runs nothing, and holds what was signed", () => {
    const signed: SignedReport = { report: report(), signature: { signer: "jbk1ver", value: "c2ln" } };
    const page = htmlOf(signed);
    expect(page).toContain("<td>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</td>");
    expect(page.match(/<script/g)).toHaveLength(1);
    expect(page).not.toMatch(/\b(src|href)=|url\(/);
    const data = /<script type="application\/json" id="report">(.*)<\/script>/.exec(page)?.[1] ?? "";
    expect(JSON.parse(data)).toEqual(signed);
    expect(signedText(JSON.parse(data).report)).toBe(signedText(signed.report));
  });
});

describe("a document in plain text", () => {
  const table = (cell: string) => ({
    title: "T",
    blocks: [{ kind: "table" as const, head: ["Name", "Rows"], rows: [[cell, "7"]] }],
  });

  test("has columns where they fit, and else a row below its first cell", () => {
    expect(plainText(table("short"))).toBe("T\n=\n\nName   Rows\nshort     7\n");
    expect(plainText(table("word ".repeat(30).trim()))).toBe(
      `T\n=\n\n${"word ".repeat(20).trim()}\n  ${"word ".repeat(10).trim()}\n  Rows:      7\n`,
    );
  });

  test("has a page without data for programs where there is none", () => {
    expect(htmlText(table("short"))).not.toContain("<script");
  });
});
