import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { stopServer } from "../../src/postgres/restoredCluster.js";
import { environment, type TestPostgres } from "./postgres.js";
import type { TestSite } from "./site.js";

/** A report that answers what will be asked of it: every step with its end and its proof, both forms of text written. */
// biome-ignore lint/suspicious/noExplicitAny: a JSON document
export function expectWholeReport(answer: any, left: string[] = []): any {
  const report = JSON.parse(readFileSync(answer.report.replace(/md$/, "json"), "utf8"));
  expect(report).toMatchObject({
    id: answer.id,
    runbook: answer.runbook,
    status: "succeeded",
    drill: answer.drill,
  });
  expect(report.rtoMs).toBeGreaterThan(0);
  for (const step of report.steps) {
    if (left.includes(step.name)) {
      expect(step.status).toBe("skipped");
      continue;
    }
    expect(step).toMatchObject({ status: "done", error: null });
    expect(step.evidence.length).toBeGreaterThan(0);
    expect(Date.parse(step.finishedAt)).toBeGreaterThanOrEqual(Date.parse(step.startedAt));
  }
  expect(report.notRun.map(({ step }: { step: string }) => step)).toEqual(left);
  for (const name of ["report.md", "report.html"]) {
    const text = readFileSync(answer.report.replace("report.md", name), "utf8");
    for (const { name: step } of report.steps) expect(text).toContain(step);
    for (const heading of ["Timeline", "Decisions", "Evidence", "Steps not run"])
      expect(text).toContain(heading);
  }
  return report;
}

/** Steps, as a run answers them. */
// biome-ignore lint/suspicious/noExplicitAny: a JSON document
export const statuses = (answer: any): Record<string, string> =>
  Object.fromEntries(
    answer.steps.map(({ name, status }: { name: string; status: string }) => [name, status]),
  );

/** What a cluster's files were on is gone; the place of its socket stays, as a host's own does. */
export async function loseServer(server: TestPostgres): Promise<void> {
  await stopOn(server.dataDirectory, server.binDirectory);
  rmSync(server.dataDirectory, { recursive: true });
}

/** Ends the server on a directory, if one runs there, as whoever the directory belongs to. */
export async function stopOn(dataDirectory: string, binDirectory: string): Promise<void> {
  if (!existsSync(dataDirectory)) return;
  const { uid, gid } = statSync(dataDirectory);
  const owner = process.getuid?.() === 0 ? { uid, gid } : null;
  await stopServer({ dataDirectory, binDirectory, environment, owner });
}

/** A folder that servers, which run as somebody else, may enter. */
export function openFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "jbackup-dr-"));
  chmodSync(folder, 0o755);
  return folder;
}

/** Gives a site a folder of its own for what is temporary: drills of other tests that run meanwhile are none of its. */
export function ownTemporary(site: TestSite, folder: string): void {
  const temporary = join(folder, "tmp");
  mkdirSync(temporary);
  chmodSync(temporary, 0o1777);
  site.environment.TMPDIR = temporary;
}

/** Drills of this site that left something. */
export const leftovers = (site: TestSite): string[] =>
  readdirSync(String(site.environment.TMPDIR)).filter((name) => /^jbackup-(drill|begun)-/.test(name));
