import { createHash } from "node:crypto";
import type { Backup } from "../../domain/backup.js";
import { spanText } from "../../domain/document.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import { subjectOf } from "../../domain/runScope.js";
import { signedText, type TestReport } from "../../domain/testReport.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { recordAudit } from "../audit.js";
import type { Site } from "../site.js";
import { ofMethod, TEST_RESTORE_JOB } from "./job.js";
import type { ReportFiles } from "./report.js";

export interface Settling {
  files: ReportFiles;
  /** An older backup that can be restored does not make up for a newer one that cannot. */
  isNewest: boolean;
  /** What of the job was asked for; null: all of it. */
  about: string | null;
}

/** What was seen goes into the records, and what is wrong to people. */
export async function settle(site: Site, report: TestReport, settling: Settling): Promise<void> {
  await recordEvidence(site, report, settling.files);
  await tellResult(site, report, settling);
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
      storages: provedStorages(report),
      report: files.json,
      reportSha256: sha256,
    },
  });
  await judgeBackup(site, report);
  await recordAudit(site, "backup.test-restore", backup.id, { status, report: files.json, sha256 });
}

/** Those that fed it, and of which nothing had to be passed over. */
const provedStorages = ({ storages, remarks }: TestReport): string[] =>
  storages
    .filter(({ name, objects }) => objects > 0 && !remarks.some((one) => one.startsWith(`storage ${name}: `)))
    .map(({ name }) => name);

/** Failing in one of these, it is the backup that is bad; the others are about what is in it. */
const OF_THE_BACKUP = ["restore", "databases", "rows", "structure", "checksums"];

/** A backup that was restored and looked at is proved, one that cannot be restored is not; copies that are known to be bad stay to be told of. */
async function judgeBackup(site: Site, { backup, status, checks }: TestReport): Promise<void> {
  const [record] = await known(site, backup.id);
  if (record === undefined) return;
  const isBad = checks.some((check) => check.status === "failed" && OF_THE_BACKUP.includes(check.name));
  const isWhole = !record.copies.some((copy) => copy.status === "missing" || copy.status === "damaged");
  const is = isBad ? "completed" : status === "passed" && isWhole ? "verified" : record.status;
  if (is !== record.status) await site.catalog.saveBackups([{ ...record, status: is }]);
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

async function tellResult(
  site: Site,
  report: TestReport,
  { files, isNewest, about }: Settling,
): Promise<void> {
  const { label, id, method } = report.backup;
  const fingerprint = ofMethod("failed", method);
  for (const what of ["interrupted", "untested"])
    await resolveAlert(
      site,
      `${what}:${subjectOf(TEST_RESTORE_JOB, about)}`,
      `a test restore of ${label} came to its end`,
    );
  if (report.status === "passed") {
    if (isNewest) await resolveAlert(site, fingerprint, `the test restore of ${label} passed`);
    return;
  }
  const problems = problemsOf(report);
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
  await raiseAlert(site, {
    type: "RESTORE_FAILURE",
    severity: "critical",
    fingerprint,
    message: `the test restore of ${label} failed: ${problems[0] ?? "nothing could be checked"}${more}`,
    hint: `read the report in ${files.text}`,
    backupId: id,
  });
}

async function tellObjectives(site: Site, report: TestReport): Promise<void> {
  const { label, id, method } = report.backup;
  for (const which of ["rto", "rpo"] as const) {
    const measured = report[`${which}Ms`];
    const fingerprint = ofMethod(which, method);
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

/** Nothing could be tested, which is as bad as a test that failed: what is stored may be as good as ever. What the operator mistyped is not told to others. */
export async function tellUntested(site: Site, error: unknown, about: string | null): Promise<void> {
  if (site.signal.aborted || !(error instanceof JBackupError)) return;
  const { code, hint } = error;
  const isMistyped = code === "usage" || (about !== null && (code === "ambiguous" || code === "not_found"));
  if (isMistyped) return;
  await raiseAlert(site, {
    type: "RESTORE_FAILURE",
    severity: "critical",
    fingerprint: `untested:${subjectOf(TEST_RESTORE_JOB, about)}`,
    message: `no test restore could be made: ${reasonOf(error)}`,
    hint: hint ?? null,
  });
}
