import { spanText } from "../../domain/document.js";
import { type ExitCode, JBackupError } from "../../domain/errors.js";
import type { Check, TestReport } from "../../domain/testReport.js";
import { checkReport, type TestRestored, testRestore } from "../../engine/testRestore.js";
import { type CommandContext, type CommandRun, type Options, withSite, withSiteToRead } from "../context.js";
import { countFlag, flagText, isSet, textFlag } from "../flags.js";
import { wrapped } from "../table.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

/** What has no meaning for a test restore is refused, not passed over. */
function refuseStrays(options: Options, names: string[], why: string): void {
  const stray = names.find((name) => options[name] !== undefined);
  if (stray === undefined) return;
  throw usage(`${flagText(stray)} has no meaning with ${why}`, "leave it out");
}

const MARK: Record<Check["status"], string> = {
  passed: "ok",
  failed: "FAILED",
  noted: "noted",
  skipped: "skipped",
};

const verdict = (report: TestReport, which: "rto" | "rpo"): string => {
  const measured = report[`${which}Ms`];
  if (measured === null) return "not measured";
  const objective = spanText(report.objectives[`${which}Ms`]);
  if (which === "rpo" && report.unjudged !== null)
    return `${spanText(measured)} (objective ${objective}; not judged: ${report.unjudged})`;
  return `${spanText(measured)} (objective ${objective}: ${report.missed.includes(which) ? "MISSED" : "met"})`;
};

/** Checks of the backup itself; the others are of what is in it. */
const OF_STORAGE = ["restore", "wal", "databases", "rows", "structure", "checksums"];

function tryNext({ checks, missed, backup }: TestReport): string[] {
  const isBad = checks.some(({ name, status }) => status === "failed" && OF_STORAGE.includes(name));
  if (isBad) return [`Try: jbackup verify ${backup.label} --level sealed says whether its copies are whole.`];
  return missed.length > 0
    ? ["Try: jbackup alerts says what helps against the objective that was missed."]
    : [];
}

/** A name that is too long for its column has what was seen below it. */
const NAME_PLACES = 28;

function checkText(
  { name, status, seen, expected }: Check,
  { paint, columns }: CommandContext["output"],
): string {
  const colour = status === "failed" ? paint.red : status === "passed" ? paint.green : (text: string) => text;
  const mark = colour(MARK[status].padEnd(7));
  const indent = " ".repeat(10);
  const text = `${seen}${status === "failed" ? ` (expected: ${expected})` : ""}`;
  const isLong = name.length > NAME_PLACES;
  const room = columns - indent.length - (isLong ? 0 : NAME_PLACES + 2);
  const [first = "", ...more] = wrapped(text.replaceAll("\n", " "), Math.max(20, room));
  const space = isLong ? indent : " ".repeat(indent.length + NAME_PLACES + 2);
  if (isLong) return [`  ${mark} ${name}`, ...[first, ...more].map((line) => `${space}${line}`)].join("\n");
  return [`  ${mark} ${name.padEnd(NAME_PLACES)}  ${first}`, ...more.map((line) => `${space}${line}`)].join(
    "\n",
  );
}

function summaryText({ report, files }: TestRestored, { output }: CommandContext): string {
  const failed = report.checks.filter(({ status }) => status === "failed");
  return [
    `Test restore of ${report.backup.label} (${report.backup.method}): ${report.checks.length} checks, ${failed.length === 0 ? "none" : failed.length} failed, in ${spanText(report.durationMs)}.`,
    ...report.checks.map((check) => checkText(check, output)),
    `  back after  ${verdict(report, "rto")}`,
    `  work lost   ${verdict(report, "rpo")}`,
    `Report: ${files.html} (.txt and .json beside it)`,
    ...tryNext(report),
  ].join("\n");
}

function answerOf({ report, signature, files }: TestRestored): Record<string, unknown> {
  const { backup, checks, recovery, remarks } = report;
  return {
    level: "restore",
    checked: checks.length,
    problems: checks
      .filter(({ status }) => status === "failed")
      .map(({ name, seen }) => ({ backupId: backup.id, storage: null, path: name, problem: seen })),
    healed: [],
    durationMs: report.durationMs,
    id: report.id,
    status: report.status,
    backupId: backup.id,
    label: backup.label,
    method: backup.method,
    rtoMs: report.rtoMs,
    rpoMs: report.rpoMs,
    objectives: report.objectives,
    missed: report.missed,
    recoveredTo: recovery?.recoveredTo ?? null,
    checks,
    storages: report.storages,
    warnings: remarks,
    report: files,
    signature,
  };
}

const exitOf = ({ status, missed }: TestReport): ExitCode =>
  status === "failed" ? 4 : missed.length > 0 ? 15 : 0;

/** `verify --level restore`. */
export const run: CommandRun = (context, args, options) => {
  if (isSet(options, "all"))
    throw usage(
      "--all has no meaning with --level restore",
      "a test restores one backup: name it, or leave it out",
    );
  refuseStrays(options, ["heal", "share", "storage"], "--level restore");
  const tenants = countFlag(options, "tenantSample", 0, 1000) ?? null;
  return withSite(context, async (site) => {
    const done = await testRestore(site, {
      reference: args[0] ?? null,
      tenants,
      reportFile: textFlag(options, "report") ?? null,
    });
    context.output.answer(answerOf(done), summaryText(done, context));
    return exitOf(done.report);
  });
};

/** `verify --check-report FILE`. */
export const checkReportRun: CommandRun = (context, args, options) => {
  const others = ["level", "all", "heal", "share", "storage", "tenantSample", "report"];
  refuseStrays(options, others, "--check-report");
  if (args[0] !== undefined)
    throw usage("a backup and --check-report exclude each other", "leave one of them out");
  const file = textFlag(options, "checkReport") ?? "";
  return withSiteToRead(context, async (site) => {
    const { report, signature, pageCompared } = await checkReport(site, file);
    const isPage = file.endsWith(".html");
    context.output.answer(
      { file, valid: true, signer: signature?.signer ?? null, pageCompared, report },
      [
        `${file} is as ${signature?.signer} signed it: test restore of ${report.backup.label} at ${report.startedAt}, ${report.status}.`,
        ...(isPage && !pageCompared
          ? [
              `Note: jbackup ${report.jbackup} made this page, which shows what was signed in its own way: trust the data in it, or the .json form.`,
            ]
          : []),
      ].join("\n"),
    );
    return 0;
  });
};
