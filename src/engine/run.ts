import type { Backup, Run } from "../domain/backup.js";
import { isJBackupError, reasonOf } from "../domain/errors.js";
import { type RunScope, scopeAfter, scopeOf, subjectOf } from "../domain/runScope.js";
import { raiseAlert } from "./alert.js";
import { watchCapacity } from "./alerts/capacity.js";
import { deliverAlerts } from "./alerts/deliver.js";
import { beat } from "./alerts/heartbeat.js";
import { watchSchedule } from "./alerts/watch.js";
import { actorOf } from "./audit.js";
import { noteConfigChange } from "./configChange.js";
import { completedAfterAll } from "./findBackup.js";
import { lockOnHost } from "./lock.js";
import type { Site } from "./site.js";

export interface RunContext {
  id: string;
  startedAt: Date;
  /** user@host, for the records. */
  by: string;
  /**
   * Settles what runs that were killed left in the records. To be called when every lock of the job is held, for only
   * then is whatever still says that it is running known to be dead: this host's lock knows nothing of other hosts.
   * Answers the backups that were being made. Where several runs of a job may be at work, only those that are meant.
   */
  settleKilled(isMeant?: (run: Run) => boolean): Promise<Backup[]>;
  /** For its record, when it ends. */
  note(facts: Record<string, unknown>): void;
}

const orNone = async <Found>(site: Site, ask: Promise<Found[]>): Promise<Found[]> => {
  try {
    return await ask;
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(`the catalog cannot be read (${error.message}); going on without it`);
    return [];
  }
};

/** The name of the part that a run is about. */
const aboutOf = (run: Run): string | null =>
  scopeOf(run) !== "whole" && typeof run.metadata.about === "string" ? run.metadata.about : null;

const OF_RESTORES = ["restore", "test-restore"];

/** We hold the locks, so whatever else still says that it is running was killed. */
async function markInterrupted(
  site: Site,
  job: string,
  ownId: string,
  isMeant: (run: Run) => boolean,
): Promise<Backup[]> {
  const killed: Backup[] = [];
  const now = site.clock.now().toISOString();
  for (const run of await orNone(site, site.catalog.runs({ job, status: ["running"] }))) {
    if (run.id === ownId || !isMeant(run)) continue;
    await site.catalog.saveRun({
      ...run,
      status: "interrupted",
      finishedAt: now,
      error: "the process ended without a word",
    });
    for (const backup of await orNone(site, site.catalog.backups({ status: ["in_progress"] }))) {
      if (backup.jobId !== run.id) continue;
      const whole = await completedAfterAll(site, backup);
      await site.catalog.saveBackups([whole ?? { ...backup, status: "interrupted", finishedAt: now }]);
      killed.push(backup);
      site.report.warn(
        whole === null
          ? `backup ${backup.label} was interrupted by a crash or a kill; it is not usable`
          : `backup ${backup.label} was interrupted after its manifest had been written; it is complete`,
      );
    }
    for (const restore of await orNone(site, site.catalog.restores({ status: ["in_progress"] }))) {
      if (restore.jobId !== run.id) continue;
      await site.catalog.saveRestore({
        ...restore,
        status: "failed",
        finishedAt: now,
        error: "interrupted by a crash or a kill",
      });
      site.report.warn(`a restore into ${restore.target} was interrupted by a crash or a kill; run it again`);
    }
    await raiseAlert(site, {
      type: OF_RESTORES.includes(job) ? "RESTORE_FAILURE" : "BACKUP_FAILURE",
      severity: "error",
      fingerprint: `interrupted:${subjectOf(job, aboutOf(run))}`,
      message: `the ${job} that started at ${run.startedAt} on ${run.host} was interrupted`,
      hint: "look for a crash, a reboot or the out-of-memory killer at that time",
    });
  }
  return killed;
}

/** For jobs that are locked on each host alone: another host's run may well be alive. */
export const onThisHost =
  (site: Site) =>
  ({ host }: Run): boolean =>
    host === site.environment.host;

export interface RunWish<Result> {
  /** Jobs that write to the same place share a lock; by default each has its own. */
  lock?: string;
  /** A run that came to its end may have found something wrong all the same. */
  judge?: (result: Result) => Ended;
  /** Of a part nothing follows for the job: no heartbeat, and neither its schedule nor its health. */
  scope?: "whole" | "part";
  /** Names that part, where its troubles are told apart from those of the job. */
  about?: string;
  /** For its record. */
  metadata?: Record<string, unknown>;
}

type Ended = Extract<Run["status"], "succeeded" | "partial" | "failed">;

/** One locked, recorded run of a job. Its end is recorded whatever happens, short of a kill; people are told when the lock is free again. */
export async function withRun<Result>(
  site: Site,
  job: string,
  work: (run: RunContext) => Promise<Result>,
  { lock = job, judge = () => "succeeded", scope = "whole", about, metadata = {} }: RunWish<Result> = {},
): Promise<Result> {
  const release = await lockOnHost(site, lock);
  const isWhole = scope === "whole";
  const started = isWhole ? beat(site, job, "start") : Promise.resolve();
  let how: "success" | "fail" | null = isWhole ? "fail" : null;
  try {
    await noteConfigChange(site);
    const marked = { ...metadata, ...(about === undefined ? {} : { about }) };
    const { result, status } = await recordedRun(site, job, work, { judge, scope, metadata: marked });
    if (isWhole && status === "succeeded") how = "success";
    return result;
  } catch (error) {
    if (scopeAfter(scope, error) !== "whole") how = null;
    throw error;
  } finally {
    release();
    await tellAfterwards(site, job, how, started);
  }
}

async function recordedRun<Result>(
  site: Site,
  job: string,
  work: (run: RunContext) => Promise<Result>,
  { judge, scope, metadata }: Required<Pick<RunWish<Result>, "judge" | "scope" | "metadata">>,
): Promise<{ result: Result; status: Ended }> {
  const startedAt = site.clock.now();
  const row: Run = {
    id: site.newId(),
    job,
    status: "running",
    startedAt: startedAt.toISOString(),
    finishedAt: null,
    host: site.environment.host,
    pid: process.pid,
    exitCode: null,
    error: null,
    metadata: { ...metadata, scope },
  };
  await site.catalog.saveRun(row);
  const end = (status: Run["status"], error: string | null, as: RunScope = scope): Promise<void> => {
    // what the work found out about the whole may stand there by now
    const metadata = { ...row.metadata, scope: as };
    const finishedAt = site.clock.now().toISOString();
    return site.catalog.saveRun({ ...row, status, error, finishedAt, metadata });
  };
  try {
    const result = await work({
      id: row.id,
      startedAt,
      by: actorOf(site),
      note: (facts) => void Object.assign(row.metadata, facts),
      settleKilled: (isMeant = () => true) => markInterrupted(site, job, row.id, isMeant),
    });
    const status = judge(result);
    await end(status, null);
    return { result, status };
  } catch (error) {
    await end(site.signal.aborted ? "interrupted" : "failed", reasonOf(error), scopeAfter(scope, error));
    throw error;
  }
}

/** Everything that people are to hear of a run that is over. Its own troubles never become those of the run. */
async function tellAfterwards(
  site: Site,
  job: string,
  how: "success" | "fail" | null,
  started: Promise<void>,
): Promise<void> {
  const ended = how === null ? Promise.resolve() : beat(site, job, how);
  if (site.signal.aborted) return; // whoever stopped it knows, and the clean-up has its limit
  try {
    await watchSchedule(site);
    await watchCapacity(site);
    await deliverAlerts(site);
    await Promise.all([started, ended]);
  } catch (error) {
    site.report.warn(`alerts could not be sent: ${reasonOf(error)}`);
  }
}
