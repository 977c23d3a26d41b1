import { nextRun } from "../../domain/cron.js";
import { isJBackupError } from "../../domain/errors.js";
import { FOLLOW, FOLLOW_WORDS, SCHEDULED, type ScheduledName, timedJobs } from "../../domain/schedule.js";
import { lockOnHost } from "../lock.js";
import type { Site } from "../site.js";
import { SCHEDULE_LOCK } from "./daemon.js";
import { runsOf } from "./jobs.js";
import { missedAt } from "./once.js";
import { waitingRequests } from "./requests.js";

export interface ShownJob {
  name: ScheduledName;
  command: string;
  /** A cron line, in UTC, or `follow`. */
  cron: string;
  nextRun: string | null;
  lastRun: {
    id: string;
    status: string;
    startedAt: string;
    finishedAt: string | null;
    durationMs: number | null;
    host: string;
    error: string | null;
  } | null;
  overdue: boolean;
  /** The time that was missed. */
  missedAt: string | null;
}

export interface ShownRequest {
  id: string;
  command: string;
  dueAt: string;
  status: string;
  createdBy: string;
}

export interface ShownSchedule {
  site: string;
  now: string;
  /** A daemon runs on this host. */
  daemonRunning: boolean;
  jobs: ShownJob[];
  requests: ShownRequest[];
}

export async function showSchedule(site: Site): Promise<ShownSchedule> {
  const jobs: ShownJob[] = [];
  for (const job of timedJobs(site.config.schedule)) {
    const missed = await missedAt(site, job);
    jobs.push({
      name: job.name,
      command: SCHEDULED[job.name].words.join(" "),
      cron: job.text,
      nextRun: nextRun(job.cron, site.clock.now()).toISOString(),
      lastRun: await lastRun(site, job.name),
      overdue: missed !== null,
      missedAt: missed?.toISOString() ?? null,
    });
  }
  if (site.config.schedule.wal === FOLLOW) jobs.unshift(await followed(site));
  const requests = await waitingRequests(site);
  return {
    site: site.config.site,
    now: site.clock.now().toISOString(),
    daemonRunning: await isDaemonRunning(site),
    jobs,
    requests: requests.map(({ id, args, dueAt, status, createdBy }) => ({
      id,
      command: args.join(" "),
      dueAt,
      status,
      createdBy,
    })),
  };
}

async function followed(site: Site): Promise<ShownJob> {
  const last = await lastRun(site, "wal");
  return {
    name: "wal",
    command: FOLLOW_WORDS.join(" "),
    cron: FOLLOW,
    nextRun: null,
    lastRun: last,
    overdue: last !== null && last.status !== "running",
    missedAt: last !== null && last.status !== "running" ? last.finishedAt : null,
  };
}

async function lastRun(site: Site, name: ScheduledName): Promise<ShownJob["lastRun"]> {
  const [run] = await runsOf(site, name, 1);
  if (run === undefined) return null;
  const { id, status, startedAt, finishedAt, host, error } = run;
  const durationMs = finishedAt === null ? null : Date.parse(finishedAt) - Date.parse(startedAt);
  return { id, status, startedAt, finishedAt, durationMs, host, error };
}

/** Whether the lock of whoever carries out the schedule is held. */
export async function isDaemonRunning(site: Site): Promise<boolean> {
  try {
    (await lockOnHost(site, SCHEDULE_LOCK))();
    return false;
  } catch (error) {
    if (isJBackupError(error, "locked")) return true;
    throw error;
  }
}
