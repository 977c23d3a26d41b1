import type { JobRequest } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { SCHEDULED, type ScheduledName, type TimedJob, timedJobs } from "../../domain/schedule.js";
import { firstSeen, missedSlot } from "../alerts/watch.js";
import { lockOnHost } from "../lock.js";
import type { Site } from "../site.js";
import { type JobEnd, runJob } from "./child.js";
import { SCHEDULE_LOCK } from "./daemon.js";
import { lastCounted } from "./jobs.js";
import { returnKilledRequests, returnRequest, settleRequest, takeDueRequests } from "./requests.js";

export interface OncePart {
  command: string;
  why: "one-off" | "missed";
  exitCode: number | null;
  error: string | null;
}

/** What cron and timers cannot know of: one-off runs that are due, and runs that were missed. Null when somebody else is at it. */
export async function runOnce(site: Site): Promise<OncePart[] | null> {
  const release = await lockOnHost(site, SCHEDULE_LOCK).catch((error: unknown) => {
    if (isJBackupError(error, "locked")) return null;
    throw error;
  });
  if (release === null) return null;
  try {
    await returnKilledRequests(site);
    const parts: OncePart[] = [];
    for (const request of await takeDueRequests(site)) {
      const end = await runJob(site, "one-off", request.args);
      if (site.signal.aborted) {
        await returnRequest(site, request);
        throw site.signal.reason;
      }
      if (isPutOff(site, request, end)) await returnRequest(site, request);
      else await settleRequest(site, request, end);
      parts.push(partOf(request.args, "one-off", end));
    }
    for (const { name, slot } of await missedJobs(site)) {
      site.report.info(`${name} was missed at ${slot.toISOString()} and is made up for`);
      const end = await runJob(site, name, SCHEDULED[name].words);
      site.signal.throwIfAborted();
      parts.push(partOf(SCHEDULED[name].words, "missed", end));
    }
    return parts;
  } finally {
    release();
  }
}

const LONGEST_WAIT_MS = 86_400_000;

/** Another run holds the lock: the next pass tries again, for a day. */
const isPutOff = (site: Site, { dueAt }: JobRequest, { exitCode }: JobEnd): boolean =>
  exitCode === 11 && site.clock.now().getTime() - Date.parse(dueAt) < LONGEST_WAIT_MS;

const partOf = (words: readonly string[], why: OncePart["why"], { exitCode, error }: JobEnd): OncePart => ({
  command: words.join(" "),
  why,
  exitCode,
  error,
});

/** When a job should have run and did not; late by so much that it will not come by itself. */
export async function missedAt(site: Site, { name, cron }: TimedJob): Promise<Date | null> {
  return missedSlot(cron, await lastCounted(site, name), await firstSeen(site), site.clock.now());
}

async function missedJobs(site: Site): Promise<{ name: ScheduledName; slot: Date }[]> {
  const missed: { name: ScheduledName; slot: Date }[] = [];
  for (const job of timedJobs(site.config.schedule)) {
    const slot = await missedAt(site, job);
    if (slot !== null) missed.push({ name: job.name, slot });
  }
  return missed;
}
