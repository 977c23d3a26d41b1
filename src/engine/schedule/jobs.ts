import type { Run } from "../../domain/backup.js";
import {
  coveredSince,
  freshState,
  jitterMs,
  SCHEDULED,
  type ScheduledName,
  type TimedJob,
} from "../../domain/schedule.js";
import { isAlive, markOf } from "../../sys/processes.js";
import { drillRuns } from "../alerts/drills.js";
import { firstSeen } from "../alerts/watch.js";
import type { Site } from "../site.js";
import type { DaemonJob } from "./health.js";

/** What the catalog knows of a job's runs, newest first; those that were about a part of it, or not let in, are none of the schedule's. */
export async function runsOf(site: Site, name: ScheduledName, limit: number): Promise<Run[]> {
  const { job } = SCHEDULED[name];
  if (name !== "drill") return site.catalog.runs({ job, scope: "whole", limit });
  return (await drillRuns(site)).slice(0, limit);
}

/** The last run that counts for the schedule: one that was cut off is missing still. */
export async function lastCounted(site: Site, name: ScheduledName): Promise<Run | undefined> {
  const runs = await runsOf(site, name, 20);
  return runs.find((run) => (run.status === "running" ? isAtWork(site, run) : run.status !== "interrupted"));
}

/** Of another host nothing is known: it is believed. */
const isAtWork = (site: Site, { host, pid }: Run): boolean =>
  host !== site.environment.host || isAlive({ ...markOf(pid), startTicks: null });

/** Up to when each job has nothing to make up for, by the catalog. */
export async function coveredByRecords(
  site: Site,
  jobs: readonly TimedJob[],
): Promise<Map<ScheduledName, number>> {
  const firstMs = (await firstSeen(site)).getTime();
  const covered = new Map<ScheduledName, number>();
  for (const { name, cron } of jobs)
    covered.set(name, coveredSince(await lastCounted(site, name), firstMs, cron));
  return covered;
}

export const jitterOf =
  (site: Site, { name, cron }: TimedJob) =>
  (slot: Date): number =>
    jitterMs(`${site.config.site} ${name}`, cron, slot);

/** The daemon's jobs by a schedule: what is known of a job stays, and times that are new count from now on. */
export function jobsAfter(
  before: ReadonlyMap<ScheduledName, DaemonJob>,
  jobs: readonly TimedJob[],
  now: Date,
): Map<ScheduledName, DaemonJob> {
  const nowMs = now.getTime();
  return new Map(
    jobs.map((job) => {
      const known = before.get(job.name);
      if (known === undefined)
        return [job.name, { job, state: freshState(nowMs), last: null, pid: null, isGivenUp: false }];
      // runs that are at work hold on to it
      if (known.job.text !== job.text)
        known.state = { ...known.state, coveredMs: Math.max(known.state.coveredMs, nowMs) };
      known.job = job;
      return [job.name, known];
    }),
  );
}
