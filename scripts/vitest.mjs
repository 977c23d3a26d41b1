import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exec, report, root, run } from "./stage.mjs";

/** Runs vitest projects with their output shown; resolves to { code, signal, passed, failed, skipped }. */
export async function vitest(node, projects, title, filters) {
  const directory = mkdtempSync(join(tmpdir(), "jbackup-vitest-"));
  const file = join(directory, "report.json");
  const startedAt = Date.now();
  try {
    const ended = await run(
      node,
      [
        join(root, "node_modules", "vitest", "vitest.mjs"),
        "run",
        ...projects.flatMap((project) => ["--project", project]),
        ...["--reporter=default", "--reporter=json", `--outputFile.json=${file}`],
        // a name given by the user may match in one project only
        ...(filters.length > 0 ? ["--passWithNoTests", ...filters] : []),
      ],
      exec.inherit,
    );
    const result = { ...ended, ...countTests(readReport(file), ended) };
    report(title, ended.code === 0, startedAt, totalLine([result]));
    return result;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function readReport(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** A file that did not even load, or a run that failed outside any test, counts as a failure: 0 would be a lie. */
export function countTests(summary, ended) {
  const files = summary?.testResults ?? [];
  const unloaded = files.filter(
    (file) => file.status === "failed" && file.assertionResults.length === 0,
  ).length;
  const failed = (summary?.numFailedTests ?? 0) + unloaded;
  return {
    passed: summary?.numPassedTests ?? 0,
    failed: failed === 0 && ended.code !== 0 ? 1 : failed,
    skipped: (summary?.numPendingTests ?? 0) + (summary?.numTodoTests ?? 0),
  };
}

export function totalLine(runs) {
  const total = (key) => runs.reduce((sum, one) => sum + one[key], 0);
  const skipped = total("skipped");
  return `${total("passed")} passed, ${total("failed")} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
