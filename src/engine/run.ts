import type { Backup, Run } from "../domain/backup.js";
import { isJBackupError, reasonOf } from "../domain/errors.js";
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
      fingerprint: `interrupted:${job}`,
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
  judge?: (result: Result) => "succeeded" | "partial";
  /** For its record. */
  metadata?: Record<string, unknown>;
}

/** One locked, recorded run of a job. Its end is recorded whatever happens, short of a kill; people are told when the lock is free again. */
export async function withRun<Result>(
  site: Site,
  job: string,
  work: (run: RunContext) => Promise<Result>,
  { lock = job, judge = () => "succeeded", metadata = {} }: RunWish<Result> = {},
): Promise<Result> {
  const release = await lockOnHost(site, lock);
  const started = beat(site, job, "start");
  let how: "success" | "fail" = "fail";
  try {
    await noteConfigChange(site);
    const { result, status } = await recordedRun(site, job, work, judge, metadata);
    if (status === "succeeded") how = "success";
    return result;
  } finally {
    release();
    await tellAfterwards(site, job, how, started);
  }
}

async function recordedRun<Result>(
  site: Site,
  job: string,
  work: (run: RunContext) => Promise<Result>,
  judge: (result: Result) => "succeeded" | "partial",
  metadata: Record<string, unknown>,
): Promise<{ result: Result; status: "succeeded" | "partial" }> {
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
    metadata,
  };
  await site.catalog.saveRun(row);
  const end = (status: Run["status"], error: string | null): Promise<void> =>
    site.catalog.saveRun({ ...row, status, error, finishedAt: site.clock.now().toISOString() });
  try {
    const result = await work({
      id: row.id,
      startedAt,
      by: actorOf(site),
      settleKilled: (isMeant = () => true) => markInterrupted(site, job, row.id, isMeant),
    });
    const status = judge(result);
    await end(status, null);
    return { result, status };
  } catch (error) {
    await end(site.signal.aborted ? "interrupted" : "failed", reasonOf(error));
    throw error;
  }
}

/** Everything that people are to hear of a run that is over. Its own troubles never become those of the run. */
async function tellAfterwards(
  site: Site,
  job: string,
  how: "success" | "fail",
  started: Promise<void>,
): Promise<void> {
  const ended = beat(site, job, how);
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
