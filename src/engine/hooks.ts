import type { Backup, BackupKind } from "../domain/backup.js";
import { JBackupError, reasonOf } from "../domain/errors.js";
import { subjectOf } from "../domain/runScope.js";
import { inShell } from "../domain/shell.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { tellFailure } from "./backup/tellFailure.js";
import { type RunContext, type RunWish, withRun } from "./run.js";
import type { Site } from "./site.js";

type When = "beforeBackup" | "afterBackup" | "onFailure";

/** What a run can come to: one backup, or those of many tenants. */
type Made = Backup | { status: string; backups: { readonly length: number }; failed: unknown[] };

/** Not handed on: they are a test's, or a drill's. */
const OURS = ["JBACKUP_STOP_AT", "JBACKUP_DRILL"];
/** A run that is told to stop has little time left, and what a hook has halted must go on all the same. */
const LATE_MS = 4_000;

/**
 * A run that makes backups, with the user's commands around it. One before it that fails refuses the backup; one after it
 * is told about and changes nothing of what is stored.
 */
export function withBackupRun<Result extends Made>(
  site: Site,
  job: string,
  kind: BackupKind,
  work: (run: RunContext) => Promise<Result>,
  wish: RunWish<Result> = {},
): Promise<Result> {
  const withHooks = async (run: RunContext): Promise<Result> => {
    try {
      await runHooks(site, "beforeBackup", { KIND: kind, RUN: run.id, STATUS: "starting" });
      const made = await work(run);
      await runAfter(site, kind, factsOf(made));
      return made;
    } catch (error) {
      await tellFailure(site, subjectOf(job, wish.about ?? null), error);
      await runOnFailure(site, kind, { STATUS: "failed", ERROR: reasonOf(error) });
      throw error;
    }
  };
  return withRun(site, job, withHooks, wish);
}

async function runAfter(site: Site, kind: BackupKind, facts: Record<string, string>): Promise<void> {
  if (facts.STATUS === "failed") return runOnFailure(site, kind, facts);
  const fingerprint = "hook:afterBackup";
  try {
    const ran = await runHooks(site, "afterBackup", { KIND: kind, ...facts });
    if (ran > 0) await resolveAlert(site, fingerprint, "the commands of hooks.afterBackup succeeded");
  } catch (error) {
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    site.report.warn(`${reasonOf(error)}; the backup is stored all the same`);
    await raiseAlert(site, {
      type: "BACKUP_FAILURE",
      severity: "warning",
      fingerprint,
      message: reasonOf(error),
      hint: "the backup is stored; only what that command was to do is missing",
    });
  }
}

async function runOnFailure(site: Site, kind: BackupKind, facts: Record<string, string>): Promise<void> {
  try {
    await runHooks(site, "onFailure", { KIND: kind, ...facts });
  } catch (error) {
    site.report.warn(reasonOf(error));
  }
}

/** One after the other, until one fails. */
async function runHooks(site: Site, when: When, facts: Record<string, string>): Promise<number> {
  const commands = site.config.hooks[when];
  for (const command of commands) await runHook(site, when, command, facts);
  return commands.length;
}

async function runHook(
  site: Site,
  when: When,
  command: string | string[],
  facts: Record<string, string>,
): Promise<void> {
  const { config, environment } = site;
  const isLate = site.signal.aborted;
  const limitMs = isLate ? LATE_MS : config.hooks.timeoutMs;
  const limit = AbortSignal.timeout(limitMs);
  const variables = environment.without(new Set([...config.secretVariables, ...OURS]));
  const all = { HOOK: when, SITE: config.site, HOST: environment.host, ...facts };
  for (const [name, value] of Object.entries(all)) variables[`JBACKUP_${name}`] = value;
  site.report.info(`hooks.${when}: ${nameOf(command)}`);
  const ran = await site.shell(
    typeof command === "string" ? command : `exec ${command.map(inShell).join(" ")}`,
    {
      variables,
      directory: environment.workingDirectory,
      signal: isLate ? limit : AbortSignal.any([site.signal, limit]),
      onStart: () => undefined,
      onErrorLine: () => undefined,
    },
  );
  if (!isLate) site.signal.throwIfAborted();
  if (ran.code === 0) return;
  const how = limit.aborted
    ? `took longer than ${limitMs / 1000} s`
    : `ended with ${ran.signal ?? `code ${ran.code}`}`;
  throw new JBackupError(
    "tool_failed",
    `hooks.${when}: ${nameOf(command)} ${how}: ${site.redact(tailOf(ran))}`,
    {
      hint: "run that command by hand, or take it out of hooks in jbackup.yaml; hooks.timeout is how long one may take",
    },
  );
}

/** Arguments may be secrets, and a shell's line may be long. */
const nameOf = (command: string | string[]): string =>
  (typeof command === "string" ? command : (command[0] ?? "")).trim().split(/\s+/)[0] ?? "";

const tailOf = ({ stdout, stderr }: { stdout: string; stderr: string }): string =>
  (stderr.trim() || stdout.trim()).split("\n").slice(-4).join("; ").slice(0, 1_000) || "it printed nothing";

function factsOf(made: Made): Record<string, string> {
  if ("backups" in made)
    return {
      STATUS: made.status,
      BACKUPS: String(made.backups.length),
      FAILED: String(made.failed.length),
    };
  const stored = made.copies.filter(({ status }) => status === "stored").map(({ storage }) => storage);
  const missing = made.copies.filter(({ status }) => status !== "stored").map(({ storage }) => storage);
  return {
    ID: made.id,
    LABEL: made.label,
    STATUS: missing.length === 0 ? made.status : "partial",
    METHOD: made.method ?? "",
    COPIES: stored.join(","),
    MISSING: missing.join(","),
    RAW_BYTES: String(made.rawBytes),
    STORED_BYTES: String(made.storedBytes),
  };
}
