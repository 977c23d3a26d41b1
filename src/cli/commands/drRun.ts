import { type ExitCode, JBackupError } from "../../domain/errors.js";
import { changedNothing, spanText } from "../../domain/recoveryReport.js";
import { listRunbooks } from "../../engine/runbooks.js";
import { abortRunbook, type RunbookEnd, resumeRunbook, runRunbook } from "../../engine/runRunbook.js";
import type { Site } from "../../engine/site.js";
import { type CommandContext, type CommandRun, type Options, withSite } from "../context.js";
import { isSet, listFlag, timeFlag } from "../flags.js";
import { operatorFor } from "../operator.js";
import { askOnTerminal } from "../wizards/ask.js";
import { commandLine } from "../wizards/commandLine.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

function refuseMixtures(args: string[], options: Options, now: Date): void {
  const goesOn = ["resume", "abort"].filter((flag) => isSet(options, flag));
  if (goesOn.length > 1) throw usage("--resume and --abort exclude each other", "leave one of them out");
  const [flag] = goesOn;
  const stray = ["drill", "incidentAt", "set"].find((name) => options[name] !== undefined);
  if (flag !== undefined && stray !== undefined) {
    const word = stray === "incidentAt" ? "incident-at" : stray;
    throw usage(
      `--${word} and --${flag} exclude each other`,
      "a run goes on with what it began with: leave it out",
    );
  }
  const at = timeFlag(options, "incidentAt", now);
  if (at !== undefined && Date.parse(at) > now.getTime())
    throw usage(
      "--incident-at is in the future",
      "give the time since when the business is down, or leave it out",
    );
  if (isSet(options, "drill") && at !== undefined)
    throw usage(
      "--incident-at and --drill exclude each other",
      "a drill's clock begins with it: leave it out",
    );
  if (args[0] === "") throw usage("the runbook's name is empty", "jbackup dr list shows the names");
}

/** By what is seen: at night nobody remembers names. */
async function chosen(site: Site, context: CommandContext, options: Options): Promise<string> {
  const runbooks = await listRunbooks(site);
  if (!context.isInteractive)
    throw usage(
      "which runbook is not said",
      `name one of ${runbooks.map(({ name }) => name).join(", ")}: jbackup dr list tells when each is the right one`,
    );
  const choices = runbooks.flatMap(({ name, title, symptoms }) =>
    symptoms.map((symptom) => ({ value: name, name: `${symptom} (${title})` })),
  );
  const name = await (await askOnTerminal(context.signal)).search(
    "What do you see? (type to search)",
    choices,
  );
  const { drill, incidentAt, set, confirm, yes } = options;
  context.output.report.info("The same without the question:");
  context.output.report.info(`  ${commandLine("dr run", [name], { drill, incidentAt, set, confirm, yes })}`);
  return name;
}

const STATUS: Record<string, string> = { stopped: "failed", "passed-over": "failed" };

export function answerOf({ report, path, error }: RunbookEnd): Record<string, unknown> {
  const { id, runbook, drill, status, rtoMs, rpoMs, steps } = report;
  return {
    id,
    runbook,
    drill,
    status: STATUS[status] ?? status,
    rtoMs,
    rpoMs,
    changedNothing: changedNothing(report),
    steps: steps.map(({ name, status: one, durationMs }) => ({
      name,
      status: STATUS[one] ?? one,
      durationMs,
    })),
    report: path,
    ...(error === null
      ? {}
      : { error: { code: error.code, message: error.message, hint: error.hint ?? null } }),
  };
}

const count = (end: RunbookEnd, status: string): number =>
  end.report.steps.filter((step) => step.status === status).length;

export function textOf(end: RunbookEnd): string {
  const { report, path, error } = end;
  const what = `${report.drill ? "Drill of " : ""}${report.runbook}`;
  const goOn = report.drill
    ? `jbackup dr run ${report.runbook} --drill practises it again`
    : `jbackup dr run ${report.runbook} --resume goes on, --abort takes it back`;
  const unchanged = changedNothing(report);
  const head =
    report.status === "succeeded" && unchanged.length > 0 && !report.drill
      ? `${what} went to its end, and brought nothing back: ${unchanged.join(" and ")} changed no row. If something is missing still, begin again with an earlier moment.`
      : report.status === "succeeded"
        ? `${what} succeeded: back after ${spanText(report.rtoMs)}, work lost: ${report.rpoMs === null ? "not measured" : spanText(report.rpoMs)}.`
        : report.status === "aborted"
          ? `${what} was aborted; what could be taken back is.`
          : `${what} stopped: ${error?.message ?? "cut off"}`;
  return [
    head,
    ...report.missed.map((one) => `Objective missed: ${one.toUpperCase()}.`),
    `${count(end, "done")} steps done, ${count(end, "skipped")} left out, ${count(end, "failed") + count(end, "passed-over")} failed, ${count(end, "pending")} not begun.`,
    ...(error?.hint ? [`Try: ${error.hint}`] : []),
    ...(report.status === "stopped" ? [`Then: ${goOn}.`] : []),
    `Report: ${path}`,
  ].join("\n");
}

function exitOf({ report, error }: RunbookEnd): ExitCode {
  if (error !== null) {
    if (report.status === "aborted") return error.exitCode;
    return report.drill || error.exitCode === 4 ? 4 : 1;
  }
  return report.missed.length > 0 ? 15 : 0;
}

export const run: CommandRun = (context, args, options) => {
  const now = context.clock.now();
  refuseMixtures(args, options, now);
  return withSite(context, async (site) => {
    const operator = operatorFor(context, site, {
      confirmed: listFlag(options, "confirm"),
      isYes: isSet(options, "yes"),
    });
    const name = args[0] ?? null;
    const incidentAt = timeFlag(options, "incidentAt", now);
    const end = isSet(options, "abort")
      ? await abortRunbook(site, name, operator)
      : isSet(options, "resume")
        ? await resumeRunbook(site, name, operator)
        : await runRunbook(
            site,
            {
              name: name ?? (await chosen(site, context, options)),
              isDrill: isSet(options, "drill"),
              incidentAt: incidentAt === undefined ? null : new Date(incidentAt),
              given: listFlag(options, "set"),
            },
            operator,
          );
    context.output.answer(answerOf(end), textOf(end));
    return exitOf(end);
  });
};
