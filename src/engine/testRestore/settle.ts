import { createHash } from "node:crypto";
import type { Backup } from "../../domain/backup.js";
import { spanText } from "../../domain/document.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import { signedText, type TestReport } from "../../domain/testReport.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { recordAudit } from "../audit.js";
import type { Site } from "../site.js";
import { TEST_RESTORE_JOB } from "./job.js";
import type { ReportFiles } from "./report.js";

const FAILED = `failed:${TEST_RESTORE_JOB}`;

/** What was seen goes into the records, and what is wrong to people. */
export async function settle(site: Site, report: TestReport, files: ReportFiles): Promise<void> {
  await recordEvidence(site, report, files);
  await tellResult(site, report, files);
  await tellObjectives(site, report);
}

async function recordEvidence(site: Site, report: TestReport, files: ReportFiles): Promise<void> {
  const { backup, checks, rtoMs, rpoMs, missed, recovery, status } = report;
  const sha256 = createHash("sha256").update(signedText(report)).digest("hex");
  await site.catalog.saveVerification({
    id: report.id,
    backupId: backup.id,
    storage: null,
    level: "restore",
    status,
    checkedAt: report.finishedAt,
    durationMs: report.durationMs,
    problems: problemsOf(report),
    metadata: {
      rtoMs,
      rpoMs,
      missed,
      recoveredTo: recovery?.recoveredTo ?? null,
      checks: checks.map(({ name, status: one }) => ({ name, status: one })),
      storages: report.storages.filter(({ objects }) => objects > 0).map(({ name }) => name),
      report: files.json,
      reportSha256: sha256,
    },
  });
  if (status === "passed") await markVerified(site, backup.id);
  await recordAudit(site, "backup.test-restore", backup.id, { status, report: files.json, sha256 });
}

/** A backup that was restored and looked at is proved; copies that are known to be bad stay to be told of. */
async function markVerified(site: Site, id: string): Promise<void> {
  const [record] = await known(site, id);
  if (record === undefined || record.status !== "completed") return;
  if (record.copies.some(({ status }) => status === "missing" || status === "damaged")) return;
  await site.catalog.saveBackups([{ ...record, status: "verified" }]);
}

async function known(site: Site, id: string): Promise<Backup[]> {
  try {
    return await site.catalog.backups({ reference: id, limit: 1 });
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return []; // its journal takes the evidence all the same
    throw error;
  }
}

export const problemsOf = ({ checks }: TestReport): string[] =>
  checks.filter(({ status }) => status === "failed").map(({ name, seen }) => `${name}: ${seen}`);

async function tellResult(site: Site, report: TestReport, files: ReportFiles): Promise<void> {
  const { label, id } = report.backup;
  await resolveAlert(site, `interrupted:${TEST_RESTORE_JOB}`, `a test restore of ${label} came to its end`);
  if (report.status === "passed") {
    await resolveAlert(site, FAILED, `the test restore of ${label} passed`);
    return;
  }
  const problems = problemsOf(report);
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
  await raiseAlert(site, {
    type: "RESTORE_FAILURE",
    severity: "critical",
    fingerprint: FAILED,
    message: `the test restore of ${label} failed: ${problems[0] ?? "nothing could be checked"}${more}`,
    hint: `read the report in ${files.text}`,
    backupId: id,
  });
}

async function tellObjectives(site: Site, report: TestReport): Promise<void> {
  const { label, id } = report.backup;
  for (const which of ["rto", "rpo"] as const) {
    const measured = report[`${which}Ms`];
    const fingerprint = `${which}:${TEST_RESTORE_JOB}`;
    if (measured === null || (which === "rpo" && report.unjudged !== null)) continue;
    if (!report.missed.includes(which)) {
      await resolveAlert(site, fingerprint, `the test restore of ${label} met the objective`);
      continue;
    }
    const objective = spanText(report.objectives[`${which}Ms`]);
    await raiseAlert(site, {
      type: which === "rto" ? "DURATION_THRESHOLD" : "STALE_BACKUP",
      severity: "error",
      fingerprint,
      message:
        which === "rto"
          ? `the test restore of ${label} took ${spanText(measured)} until the database could be used, and the objective is ${objective}`
          : `the newest work in the test restore of ${label} was ${spanText(measured)} old, and the objective is ${objective}`,
      hint:
        which === "rto"
          ? "look where the time went in the report; a faster disk, a nearer storage or a newer base backup help"
          : "archive WAL more often than the objective: jbackup backup wal --follow",
      backupId: id,
    });
  }
}

/** Nothing could be tested, which is as bad as a test that failed. What the operator mistyped is not told to others. */
export async function tellUntested(site: Site, error: unknown, named: boolean): Promise<void> {
  if (site.signal.aborted || !(error instanceof JBackupError)) return;
  const { code, hint } = error;
  const isMistyped = code === "usage" || (named && (code === "ambiguous" || code === "not_found"));
  if (isMistyped) return;
  await raiseAlert(site, {
    type: "RESTORE_FAILURE",
    severity: "critical",
    fingerprint: FAILED,
    message: `no test restore could be made: ${reasonOf(error)}`,
    hint: hint ?? null,
  });
}
