import type { Run } from "../../domain/backup.js";
import { type Cron, nextRun, parseCron } from "../../domain/cron.js";
import type { JobFacts } from "../../domain/health.js";
import { FOLLOW, FOLLOW_WORDS, SCHEDULED, type ScheduledName } from "../../domain/schedule.js";
import { drillsOf } from "../alerts/drills.js";
import { firstSeen, missedSlot } from "../alerts/watch.js";
import type { Site } from "../site.js";

export interface JobStatus {
  name: string;
  /** Of the last start; null where it never ran. */
  lastRun: {
    at: string;
    finishedAt: string | null;
    status: Run["status"];
    error: string | null;
    host: string;
  } | null;
  lastGoodAt: string | null;
  schedule: string | null;
  nextAt: string | null;
  /** When it should have run and did not. */
  missedAt: string | null;
  command: string;
}

/** In the order of their weight. */
const NAMES: ScheduledName[] = [
  "full",
  "tenant",
  "wal",
  "config",
  "verify",
  "cleanup",
  "testRestore",
  "drill",
];

const commandOf = (site: Site, name: ScheduledName): string => {
  const words = site.config.schedule[name] === FOLLOW ? FOLLOW_WORDS : SCHEDULED[name].words;
  return `jbackup ${words.join(" ")}`;
};

const GOOD: Run["status"][] = ["succeeded", "partial"];

/** Every job that is scheduled, or that ever ran. */
export async function jobsInCatalog(site: Site): Promise<JobStatus[]> {
  const since = await firstSeen(site);
  const jobs: JobStatus[] = [];
  for (const name of NAMES) {
    if (name === "drill") {
      const drill = await drillJob(site);
      if (drill !== null) jobs.push(drill);
      continue;
    }
    const { job } = SCHEDULED[name];
    const [last] = await site.catalog.runs({ job, scope: "whole", limit: 1 });
    if (last === undefined && site.config.schedule[name] === undefined) continue;
    const [good] =
      last !== undefined && GOOD.includes(last.status)
        ? [last]
        : await site.catalog.runs({ job, scope: "whole", status: GOOD, limit: 1 });
    // a follower began long ago and is at work all the time
    const isAtWork = last?.status === "running";
    const done = isAtWork ? last : good;
    jobs.push({
      name,
      command: commandOf(site, name),
      lastRun: last ? lastRunOf(last) : null,
      lastGoodAt: good?.finishedAt ?? null,
      ...timesOf(site, name, done, since, name === "wal" && isAtWork),
    });
  }
  return jobs;
}

/** Drills have records of their own, and an objective besides the schedule. Null where there is nothing to recover yet. */
async function drillJob(site: Site): Promise<JobStatus | null> {
  const { last, good, dueAt, overdueSince } = await drillsOf(site);
  const schedule = site.config.schedule.drill;
  if (schedule === undefined && last === undefined && dueAt === null) return null;
  const done = last?.status === "running" ? last : good;
  const times = timesOf(site, "drill", done, await firstSeen(site), false);
  return {
    name: "drill",
    command: commandOf(site, "drill"),
    lastRun: last ? lastRunOf(last) : null,
    lastGoodAt: good?.finishedAt ?? null,
    schedule: times.schedule,
    nextAt: times.nextAt ?? dueAt?.toISOString() ?? null,
    missedAt: times.missedAt ?? overdueSince?.toISOString() ?? null,
  };
}

const lastRunOf = ({ startedAt, finishedAt, status, error, host }: Run): JobStatus["lastRun"] => ({
  at: startedAt,
  finishedAt,
  status,
  error,
  host,
});

/** Without a catalog: by the manifests alone, which tell of successes only. */
export function jobsInStorages(site: Site, newest: ReadonlyMap<string, Date>): JobStatus[] {
  return NAMES.flatMap((name) => {
    const at = newest.get(name)?.toISOString() ?? null;
    const isKept = ["full", "wal", "config"].includes(name);
    if (at === null && (site.config.schedule[name] === undefined || !isKept)) return [];
    const done = at === null ? undefined : { startedAt: at };
    return [
      {
        name,
        command: commandOf(site, name),
        lastRun: null,
        lastGoodAt: at,
        ...timesOf(site, name, done, new Date(0), false),
      },
    ];
  });
}

function timesOf(
  site: Site,
  name: ScheduledName,
  done: Pick<Run, "startedAt"> | undefined,
  since: Date,
  isFollowed: boolean,
): Pick<JobStatus, "schedule" | "nextAt" | "missedAt"> {
  const schedule = site.config.schedule[name] ?? null;
  const cron = schedule === null ? null : cronOf(schedule);
  const now = site.clock.now();
  if (cron === null)
    return { schedule, nextAt: null, missedAt: isFollowed ? null : notFollowedSince(schedule, done, now) };
  const missed = isFollowed ? null : missedSlot(cron, done, since, now);
  return { schedule, nextAt: nextRun(cron, now).toISOString(), missedAt: missed?.toISOString() ?? null };
}

/** A follower that ended should have been begun again long ago. */
function notFollowedSince(
  schedule: string | null,
  done: Pick<Run, "startedAt"> | Run | undefined,
  now: Date,
): string | null {
  if (schedule !== FOLLOW || done === undefined) return null;
  const endedAt = "finishedAt" in done && done.finishedAt !== null ? done.finishedAt : done.startedAt;
  return now.getTime() - Date.parse(endedAt) > FOLLOWER_GRACE_MS ? endedAt : null;
}

const FOLLOWER_GRACE_MS = 15 * 60_000;

/** Null for what is no time of day, such as a follower that is kept running. */
function cronOf(text: string): Cron | null {
  const parsed = parseCron(text);
  return parsed.ok ? parsed.cron : null;
}

export const jobFacts = (jobs: JobStatus[]): JobFacts[] =>
  jobs.map(({ name, command, lastRun, missedAt }) => ({
    name,
    command,
    missedAt,
    lastFailed:
      // what a person ended is no failure, and what a crash ended has an alert of its own
      lastRun?.status === "failed" ? (lastRun.error ?? "no reason is recorded") : null,
  }));
