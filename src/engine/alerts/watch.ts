import type { Backup, Run } from "../../domain/backup.js";
import { type Cron, previousRun } from "../../domain/cron.js";
import { comparedText, deviationOf } from "../../domain/deviation.js";
import { isJBackupError } from "../../domain/errors.js";
import { FOLLOW, FOLLOW_WORDS, jobsWithRuns, SCHEDULED, type TimedJob } from "../../domain/schedule.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import type { Site } from "../site.js";
import { watchDrills } from "./drills.js";

/** How late a run may begin. */
const GRACE_MS = 15 * 60_000;
const HISTORY = 10;

/** What nobody tells because it did not happen: runs that are missing, WAL that does not come. */
export async function watchSchedule(site: Site): Promise<void> {
  try {
    for (const job of jobsWithRuns(site.config.schedule)) await watchJob(site, job);
    if (site.config.schedule.wal === FOLLOW) await watchFollower(site);
    await watchRpo(site);
    await watchDrills(site);
  } catch (error) {
    // without the catalog nothing is known of earlier runs
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
  }
}

async function watchJob(site: Site, { name, cron }: TimedJob): Promise<void> {
  const { job, words } = SCHEDULED[name];
  const fingerprint = `missed:${job}`;
  const now = site.clock.now();
  const [done] = await site.catalog.runs({
    job,
    status: ["succeeded", "partial", "running"],
    scope: "whole",
    limit: 1,
  });
  // a follower began long ago and is at work all the time
  const isFollowed = name === "wal" && done?.status === "running";
  const missed = isFollowed ? null : missedSlot(cron, done, await firstSeen(site), now);
  if (missed === null) {
    await resolveAlert(site, fingerprint, `${job} ran again`);
    return;
  }
  await raiseAlert(site, {
    type: "STALE_BACKUP",
    severity: name === "full" || name === "wal" ? "critical" : "error",
    fingerprint,
    message: `${job} should have run at ${missed.toISOString()} and did not${done ? `; it last did at ${done.startedAt}` : ""}`,
    hint: `see whether cron, the timer or the daemon runs, then run it by hand: jbackup ${words.join(" ")}`,
  });
}

/** A follower that is not there: cron, a service or the daemon should have begun it again long ago. */
async function watchFollower(site: Site): Promise<void> {
  const { job } = SCHEDULED.wal;
  const fingerprint = `missed:${job}`;
  const [running] = await site.catalog.runs({ job, status: ["running"], scope: "whole", limit: 1 });
  const [last] = await site.catalog.runs({ job, scope: "whole", limit: 1 });
  const endedAt = last?.finishedAt ?? null;
  const isMissed =
    running === undefined && endedAt !== null && site.clock.now().getTime() - Date.parse(endedAt) > GRACE_MS;
  if (!isMissed) {
    await resolveAlert(site, fingerprint, "the WAL is followed again");
    return;
  }
  await raiseAlert(site, {
    type: "STALE_BACKUP",
    severity: "critical",
    fingerprint,
    message: `nobody follows the WAL since ${endedAt}`,
    hint: `see whether the service or the daemon runs, then begin it by hand: jbackup ${FOLLOW_WORDS.join(" ")}`,
  });
}

/** Since when this site is known to be at work: what should have run before that was nobody's to run. */
export async function firstSeen(site: Site): Promise<Date> {
  const [oldest] = await site.catalog.runs({ oldestFirst: true, limit: 1 });
  return oldest === undefined ? site.clock.now() : new Date(oldest.startedAt);
}

/** The last time at which it should have run and did not, whether or not it ever ran before; null where none was missed. */
export function missedSlot(
  cron: Cron,
  done: Pick<Run, "startedAt"> | undefined,
  since: Date,
  now: Date,
): Date | null {
  const slot = previousRun(cron, new Date(now.getTime() - GRACE_MS));
  if (done === undefined && slot < since) return null;
  // a run a little early, by a clock that differs, counts
  const isMade = done !== undefined && Date.parse(done.startedAt) >= slot.getTime() - GRACE_MS;
  return isMade ? null : slot;
}

/** How much would be lost now, by the last WAL that arrived. Only where WAL is archived at all. */
async function watchRpo(site: Site): Promise<void> {
  const [last] = await site.catalog.runs({
    job: SCHEDULED.wal.job,
    status: ["succeeded", "partial"],
    limit: 1,
  });
  const running = await site.catalog.runs({ job: SCHEDULED.wal.job, status: ["running"], limit: 1 });
  if (last?.finishedAt == null || running.length > 0) return;
  const ageMs = site.clock.now().getTime() - Date.parse(last.finishedAt);
  const { rpoMs } = site.config.objectives;
  // the pass itself and its interval: only what is late by more than a whole objective is a breach
  if (ageMs <= 2 * rpoMs) {
    await resolveAlert(site, "rpo", "WAL arrives again");
    return;
  }
  await raiseAlert(site, {
    type: "STALE_BACKUP",
    severity: "critical",
    fingerprint: "rpo",
    message: `the last WAL was archived ${Math.round(ageMs / 60_000)} minutes ago, and the objective is ${Math.round(rpoMs / 60_000)}`,
    hint: "run jbackup backup wal and look at what it says",
  });
}

/** What a backup holds: for files the cluster's size, since only changes are stored. */
const sizeOf = ({ method, metadata, rawBytes }: Backup): number =>
  method === "physical" && typeof metadata.clusterBytes === "number" ? metadata.clusterBytes : rawBytes;

const SIZE_PART = 0.3;
const DURATION_PART = 1;
/** A quick run that takes twice as long is nobody's trouble. */
const SLOW_MS = 60_000;

/** Compares a backup with the last ten of its kind. */
export async function watchBackup(site: Site, done: Backup): Promise<void> {
  const { kind, method } = done;
  const known = await site.catalog.backups({ kind, status: ["completed", "verified"], limit: 4 * HISTORY });
  const before = known
    .filter((one) => one.id !== done.id && one.method === method && one.tenantId === done.tenantId)
    .slice(0, HISTORY);
  const what = [kind, method].filter((part) => part !== null).join(" ");
  // a pass over the WAL holds what was written since the last one, and no size of that is usual
  const size =
    kind === "wal" ? null : deviationOf({ before: before.map(sizeOf), now: sizeOf(done) }, SIZE_PART);
  const ofSize = `size:${what}:${done.tenantId ?? ""}`;
  if (size === null) await resolveAlert(site, ofSize, `backup ${done.label} has its usual size`);
  else
    await raiseAlert(site, {
      type: "SIZE_DEVIATION",
      severity: size < 0 ? "error" : "warning",
      fingerprint: ofSize,
      message: `backup ${done.label} holds ${comparedText(size)} (${sizeOf(done)} bytes; the last ${before.length} of its kind tell what is usual)`,
      hint: `look whether data is missing: jbackup show ${done.label}`,
      backupId: done.id,
    });
  await watchDuration(site, done, before, what);
}

async function watchDuration(site: Site, done: Backup, before: Backup[], what: string): Promise<void> {
  const took = done.durationMs ?? 0;
  const past = before.flatMap(({ durationMs }) => (durationMs === null ? [] : [durationMs]));
  const longer = deviationOf({ before: past, now: took }, DURATION_PART);
  const fingerprint = `duration:${what}`;
  if (longer === null || longer < 0 || took < SLOW_MS) {
    await resolveAlert(site, fingerprint, `backup ${done.label} took its usual time`);
    return;
  }
  await raiseAlert(site, {
    type: "DURATION_THRESHOLD",
    severity: "warning",
    fingerprint,
    message: `backup ${done.label} took ${comparedText(longer)}: ${Math.round(took / 1000)} s`,
    hint: "look for a slow disk, a slow storage or a busy server",
    backupId: done.id,
  });
}
