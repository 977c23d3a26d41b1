import { type Cron, nextRun, parseCron, previousRun } from "./cron.js";

export type ScheduledName =
  | "full"
  | "tenant"
  | "wal"
  | "config"
  | "verify"
  | "cleanup"
  | "testRestore"
  | "drill";

interface Scheduled {
  /** What its runs are called in the catalog. */
  job: string;
  /** The command line behind `jbackup`. */
  words: readonly string[];
  title: string;
}

/** Not among the runs of the catalog: drills have records of their own. */
const DRILL = "drill";

/** What a line of the schedule runs, the most urgent first. */
export const SCHEDULED: Readonly<Record<ScheduledName, Scheduled>> = {
  wal: { job: "backup-wal", words: ["backup", "wal"], title: "archive the WAL" },
  full: { job: "backup-full", words: ["backup", "full"], title: "full backup" },
  tenant: {
    job: "backup-tenant",
    words: ["backup", "tenant", "--all"],
    title: "backup of every active tenant",
  },
  config: { job: "backup-config", words: ["backup", "config"], title: "backup of the configuration files" },
  verify: {
    job: "verify",
    words: ["verify", "--all", "--share", "7/day", "--heal"],
    title: "verification of a seventh of everything",
  },
  cleanup: { job: "cleanup", words: ["cleanup"], title: "cleanup by the retention rules" },
  testRestore: { job: "test-restore", words: ["verify", "--level", "restore"], title: "test restore" },
  drill: { job: DRILL, words: ["dr", "run", "server-lost", "--drill"], title: "drill of a lost server" },
};

export const SCHEDULED_NAMES = Object.keys(SCHEDULED) as ScheduledName[];

/** In place of times: the WAL is followed all the time. */
export const FOLLOW = "follow";
export const FOLLOW_WORDS: readonly string[] = [...SCHEDULED.wal.words, "--follow"];

const EVERY_FIVE_MINUTES = Array.from({ length: 12 }, (_, nth) => nth * 5);

/** What cron and timers do not know of by themselves. */
export const LEFTOVERS = {
  name: "once",
  text: "*/5 * * * *",
  cron: { ...everyMinute(), minutes: new Set(EVERY_FIVE_MINUTES) } satisfies Cron,
  words: ["schedule", "run", "--once"],
  title: "one-off runs that are due, and runs that were missed",
};

function everyMinute(): Cron {
  const all = (from: number, to: number): Set<number> =>
    new Set(Array.from({ length: to - from + 1 }, (_, nth) => from + nth));
  return {
    minutes: all(0, 59),
    hours: all(0, 23),
    days: all(1, 31),
    months: all(1, 12),
    weekdays: all(0, 6),
    isEitherDay: false,
  };
}

export interface TimedJob {
  name: ScheduledName;
  text: string;
  cron: Cron;
}

type Schedule = { [Name in ScheduledName]?: string | undefined };

/** The jobs that have times, most urgent first. */
export function timedJobs(schedule: Schedule): TimedJob[] {
  return SCHEDULED_NAMES.flatMap((name) => {
    const text = schedule[name];
    if (text === undefined || text === FOLLOW) return [];
    const parsed = parseCron(text);
    return parsed.ok ? [{ name, text, cron: parsed.cron }] : []; // bad ones are refused when the file is read
  });
}

/** Those whose runs the catalog lists. */
export const jobsWithRuns = (schedule: Schedule): TimedJob[] =>
  timedJobs(schedule).filter(({ name }) => SCHEDULED[name].job !== DRILL);

export const TRIES = 3;
/** A clock that is set back by less than this is waited for; by more, it is believed. */
const BELIEVED_MS = 60_000;
const LONGEST_JITTER_MS = 60_000;

/** Where one job of the daemon stands. Times of the clock on the wall; `retryAtMs` is of one that never jumps. */
export interface JobState {
  /** Every time of the schedule up to this one is dealt with. */
  coveredMs: number;
  isRunning: boolean;
  attempt: number;
  retryAtMs: number | null;
}

export const freshState = (coveredMs: number): JobState => ({
  coveredMs,
  isRunning: false,
  attempt: 0,
  retryAtMs: null,
});

export interface Moment {
  now: Date;
  monotonicMs: number;
}

export type Decision =
  | { act: "wait" }
  /** Its time came while it was still running. */
  | { act: "skip"; slot: Date }
  | { act: "run"; why: "due" | "missed" | "retry"; slot: Date; attempt: number };

/**
 * What to do about a job now. However many of its times have passed, it runs once for all of them; a clock that was set
 * back does not keep it from running.
 */
export function decide(
  { cron, jitter }: { cron: Cron; jitter: (slot: Date) => number },
  state: JobState,
  { now, monotonicMs }: Moment,
): Decision {
  const slot = previousRun(cron, now);
  if (slot.getTime() > believedMs(state, now)) {
    if (state.isRunning) return { act: "skip", slot };
    const lateMs = now.getTime() - slot.getTime();
    if (lateMs < jitter(slot)) return { act: "wait" };
    return { act: "run", why: lateMs > 2 * LONGEST_JITTER_MS ? "missed" : "due", slot, attempt: 1 };
  }
  if (state.isRunning || state.retryAtMs === null || monotonicMs < state.retryAtMs) return { act: "wait" };
  return { act: "run", why: "retry", slot, attempt: state.attempt + 1 };
}

const believedMs = ({ coveredMs }: JobState, now: Date): number =>
  coveredMs > now.getTime() + BELIEVED_MS ? now.getTime() : coveredMs;

/** The state when what was decided is done. */
export function stateAfter(state: JobState, decision: Decision, now: Date): JobState {
  if (decision.act === "wait") return { ...state, coveredMs: believedMs(state, now) };
  const coveredMs = Math.max(believedMs(state, now), decision.slot.getTime());
  if (decision.act === "skip") return { ...state, coveredMs };
  return { coveredMs, isRunning: true, attempt: decision.attempt, retryAtMs: null };
}

export type RunEnd = "succeeded" | "failed" | "given-up";

/** The state when a run has ended, and what that means: a failed one is tried again, unless waiting cannot help. */
export function ended(
  state: JobState,
  exitCode: number | null,
  { monotonicMs, pauseMs }: { monotonicMs: number; pauseMs: number },
): { state: JobState; how: RunEnd } {
  const rest = { ...state, isRunning: false, retryAtMs: null };
  if (exitCode !== null && DONE.has(exitCode)) return { state: { ...rest, attempt: 0 }, how: "succeeded" };
  if (!isWorthAnotherTry(exitCode) || state.attempt > TRIES)
    return { state: { ...rest, attempt: 0 }, how: "given-up" };
  return { state: { ...rest, retryAtMs: monotonicMs + pauseMs }, how: "failed" };
}

/** Done; done in part, which the next run makes up for; done, with an objective missed, which the job itself tells of. */
const DONE = new Set([0, 3, 15]);

/** Failures of the moment, another run's lock, a full disk; and a process that was killed. */
export const isWorthAnotherTry = (exitCode: number | null): boolean =>
  exitCode === null || exitCode === 1 || exitCode === 11 || exitCode === 16 || exitCode > 127;

/** Since when a job has nothing to make up for: its last run, or else the first sign of this site. */
export function coveredSince(
  last: { startedAt: string } | undefined,
  firstSeenMs: number,
  cron: Cron,
): number {
  if (last === undefined) return firstSeenMs;
  const startedMs = Date.parse(last.startedAt);
  // one that began a little early, by a clock that differs, was meant for the time that followed
  const next = nextRun(cron, new Date(startedMs)).getTime();
  return next - startedMs <= EARLY_MS ? next : startedMs;
}

const EARLY_MS = 5_000;

/** Several sites and hosts should not all begin in the same second: up to a minute, or a tenth of the interval. Always the same for the same time. */
export function jitterMs(seed: string, cron: Cron, slot: Date): number {
  const intervalMs = nextRun(cron, slot).getTime() - slot.getTime();
  const most = Math.min(LONGEST_JITTER_MS, intervalMs / 10);
  return Math.floor(fractionOf(`${seed} ${slot.toISOString()}`) * most);
}

/** FNV-1a, as a part of one. */
function fractionOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const letter of text) hash = Math.imul(hash ^ (letter.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  return hash / 2 ** 32;
}
