import type { Drill } from "../domain/backup.js";
import { isJBackupError } from "../domain/errors.js";
import { criticalPath, type Problem } from "../domain/runbook.js";
import { notForThisSite, problemsOf, unmetBy } from "./dr/prepare.js";
import type { Site } from "./site.js";

export interface ListedRunbook {
  name: string;
  title: string;
  symptoms: string[];
  steps: number;
  budgetMs: number;
  lastRun: LastRun | null;
  lastDrill: LastRun | null;
}

export interface LastRun {
  id: string;
  at: string;
  status: Drill["status"];
  rtoMs: number | null;
  rpoMs: number | null;
}

const lastOf = (rows: Drill[], runbook: string, isDrill: boolean): LastRun | null => {
  const row = rows.find((one) => one.runbook === runbook && one.drill === isDrill);
  if (row === undefined) return null;
  return { id: row.id, at: row.startedAt, status: row.status, rtoMs: row.rtoMs, rpoMs: row.rpoMs };
};

/** Every runbook that can be read, with its last run and its last drill. */
export async function listRunbooks(site: Site): Promise<ListedRunbook[]> {
  const [files, rows] = await Promise.all([site.runbookFiles(), drillsOf(site)]);
  const listed: ListedRunbook[] = [];
  for (const file of files) {
    try {
      const { runbook } = await site.parseRunbook(file);
      const { name, title, symptoms, steps, budgetMs } = runbook;
      const runs = { lastRun: lastOf(rows, name, false), lastDrill: lastOf(rows, name, true) };
      listed.push({ name, title, symptoms, steps: steps.length, budgetMs, ...runs });
    } catch (error) {
      if (!isJBackupError(error, "config_invalid")) throw error;
      site.report.warn(error.message);
    }
  }
  return listed;
}

/** When the catalog itself is lost, the runbook for that must be found all the same. */
async function drillsOf(site: Site): Promise<Drill[]> {
  try {
    return await site.catalog.drills();
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(`the catalog cannot be read (${error.message}): when runbooks were run is not known`);
    return [];
  }
}

export interface CheckedRunbook {
  file: string;
  name: string | null;
  problems: Problem[];
  warnings: string[];
  /** Why it is for other sites than this one; null when it is for this one. */
  passedOver: string | null;
}

/** Everything that would keep a runbook from being carried out at this site. */
export async function checkRunbooks(site: Site): Promise<CheckedRunbook[]> {
  const checked: CheckedRunbook[] = [];
  for (const file of await site.runbookFiles()) {
    try {
      const { runbook } = await site.parseRunbook(file);
      const passedOver = notForThisSite(site, runbook);
      const problems = [...problemsOf(runbook), ...(passedOver === null ? unmetBy(site, runbook) : [])];
      // steps that wait for each other have no longest chain
      const isSlow = problems.length === 0 && criticalPath(runbook).budgetMs > site.config.objectives.rtoMs;
      const warnings = isSlow ? ["its steps take longer than objectives.rto when each takes its budget"] : [];
      checked.push({ file: file.file, name: runbook.name, problems, warnings, passedOver });
    } catch (error) {
      if (!isJBackupError(error, "config_invalid")) throw error;
      checked.push({
        file: file.file,
        name: null,
        problems: problemsIn(error.details, error.message),
        warnings: [],
        passedOver: null,
      });
    }
  }
  return checked;
}

function problemsIn(details: Record<string, unknown> | undefined, message: string): Problem[] {
  const known = details?.problems as { path: string; line: number | null; message: string }[] | undefined;
  if (known === undefined) return [{ path: "", message }];
  return known.map((problem) => ({
    path: [problem.line === null ? "" : `line ${problem.line}`, problem.path].filter(Boolean).join(": "),
    message: problem.message,
  }));
}
