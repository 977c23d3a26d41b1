import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { htmlOf, markdownOf, type RecoveryReport, reportOf } from "../../domain/recoveryReport.js";
import type { Runbook } from "../../domain/runbook.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import { knownRuns, openJournal, type RunJournal } from "./journal.js";

export const RUNBOOK_COPY = "runbook.yaml";
export const REPORT = "report.md";

/** The report so far, in the run's folder, as a text, a page and a document. Answers the text's path. */
export async function writeReport(
  site: Site,
  journal: RunJournal,
  runbook: Runbook,
): Promise<{ report: RecoveryReport; path: string }> {
  const report = reportOf(runbook, journal.state, site.config.objectives);
  const write = (name: string, text: string): Promise<void> =>
    writeFileAtomic(join(journal.folder, name), text, { overwrite: true });
  await write("report.json", `${JSON.stringify(report, null, 2)}\n`);
  await write("report.html", htmlOf(report));
  await write(REPORT, markdownOf(report));
  return { report, path: join(journal.folder, REPORT) };
}

/** The report of a run: its id, the beginning of it, or the newest one's. */
export async function readReport(site: Site, reference: string | null): Promise<RecoveryReport> {
  const runs = await knownRuns(site);
  const fitting = reference === null ? runs.slice(0, 1) : runs.filter((run) => run.startsWith(reference));
  const [run, ...more] = fitting;
  if (run === undefined)
    throw new JBackupError(
      "not_found",
      reference === null ? "no runbook was run yet" : `there is no run "${reference}"`,
      { hint: "jbackup dr list shows when each runbook was run" },
    );
  if (more.length > 0)
    throw new JBackupError("ambiguous", `"${reference}" is the beginning of ${fitting.length} runs`, {
      hint: `give more of the id: ${fitting.slice(0, 5).join(", ")}`,
    });
  const journal = await openJournal(site, run);
  return reportOf(await runbookOf(site, journal), journal.state, site.config.objectives);
}

/** The runbook as it was when the run began: what another host began is read from the runbooks here. */
export async function runbookOf(site: Site, journal: RunJournal): Promise<Runbook> {
  const file = join(journal.folder, RUNBOOK_COPY);
  const own = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  const { runbook, hash } = journal.state;
  if (own !== null)
    return (await site.parseRunbook({ file: join(journal.folder, `${runbook}.yaml`), text: own, hash }))
      .runbook;
  const files = await site.runbookFiles();
  const same = files.find((one) => one.hash === hash);
  if (same === undefined)
    throw new JBackupError("not_found", `the runbook ${runbook} of that run is not here any more`, {
      hint: "look on the host on which it was run",
    });
  return (await site.parseRunbook(same)).runbook;
}
