import type { BackupKind, BackupMethod } from "./backup.js";

/** What a storage keeps. Times in milliseconds; counts are of periods that have a backup. */
export interface RetentionPolicy {
  withinMs?: number | undefined;
  last?: number | undefined;
  hourly?: number | undefined;
  daily?: number | undefined;
  weekly?: number | undefined;
  monthly?: number | undefined;
  yearly?: number | undefined;
}

/** A backup as far as keeping it is concerned. */
export interface KeptBackup {
  id: string;
  kind: BackupKind;
  method: BackupMethod | null;
  tenantId: string | null;
  createdAt: Date;
  /** When what is in it ends: a recovery can begin from it for any later moment. */
  endedAt: Date;
  /** Of a base. */
  timeline?: number | null;
  /** Older backups whose objects are part of it. */
  needs: string[];
  /** All of it is there, as far as is known: one that is not counts for nothing. */
  isGood: boolean;
  /** Made for a restore: of a past, or of a state that was about to be replaced. It must not take the place of a tenant's own backup. */
  isAside?: boolean;
}

/** A tenant who was seen to be gone: whole backups of all tenants no longer find it, without a break since. */
export interface Gone {
  since: Date;
  /** When: each of these stands for the backup that the tenant would have had, and counts for the policy like one. */
  seen: Date[];
}

export interface RetentionQuestion {
  /** Null: the storage keeps everything. */
  policy: RetentionPolicy | null;
  backups: KeptBackup[];
  /** Reasons by id. */
  pins: ReadonlyMap<string, string>;
  /** What is in use just now, with the reason. */
  held?: ReadonlyMap<string, string>;
  pitrWindowMs: number;
  /** The newest that there is WAL of, in case no base has been made on it yet. */
  newestTimeline?: number;
  now: Date;
  /** Why nothing may be removed of a kind just now; null where nothing stands against it. */
  paused(backup: KeptBackup): string | null;
  /** Kinds whose newest runs failed: their time stands still at the newest good one, so that nothing more expires by age. */
  isFailing?(backup: KeptBackup): boolean;
  /** By tenant. What is left of them follows the policy to its end. */
  gone?: ReadonlyMap<string, Gone>;
}

export interface RetentionAnswer {
  keep: Map<string, string[]>;
  remove: string[];
}

const UNKNOWN_RHYTHM_MS = 8 * 86_400_000;
const LATE_MS = 86_400_000;

/** Whether the newest is older than the rhythm of those before it explains: backups have stopped, or the clock is wrong. */
export function hasStopped(madeAt: readonly Date[], now: Date): boolean {
  const times = madeAt.map((at) => at.getTime()).toSorted((a, b) => b - a);
  const [newest] = times;
  if (newest === undefined) return false;
  const gaps = times.slice(0, 10).flatMap((at, nth) => (nth === 0 ? [] : [(times[nth - 1] ?? at) - at]));
  const usual = gaps.toSorted((a, b) => a - b)[Math.floor(gaps.length / 2)];
  const limitMs = gaps.length < 2 || usual === undefined ? UNKNOWN_RHYTHM_MS : 2 * usual + LATE_MS;
  return now.getTime() - newest > limitMs;
}

type PeriodOf = (at: Date) => string;

const day: PeriodOf = (at) => at.toISOString().slice(0, 10);
const DAY_MS = 86_400_000;

const PERIODS: [keyof RetentionPolicy, PeriodOf][] = [
  ["hourly", (at) => at.toISOString().slice(0, 13)],
  ["daily", day],
  ["weekly", mondayOf],
  ["monthly", (at) => at.toISOString().slice(0, 7)],
  ["yearly", (at) => at.toISOString().slice(0, 4)],
];

function mondayOf(at: Date): string {
  const sinceMonday = (at.getUTCDay() + 6) % 7;
  return day(new Date(at.getTime() - sinceMonday * DAY_MS));
}

/** Backups are kept or expire among their own kind: a tenant's among this tenant's, dumps among dumps. */
export const groupOf = ({
  kind,
  method,
  tenantId,
}: Pick<KeptBackup, "kind" | "method" | "tenantId">): string =>
  [kind, method ?? "", tenantId ?? ""].join(" ");

/** Which backups a storage keeps, each with its reasons, and which may go. Nothing that something kept needs ever goes. */
export function planRetention(question: RetentionQuestion): RetentionAnswer {
  const { backups, policy, pins } = question;
  const keep = new Map<string, string[]>();
  const because = (id: string, reason: string): void => void keep.set(id, [...(keep.get(id) ?? []), reason]);
  if (policy === null)
    for (const { id } of backups) because(id, "no policy for this storage: everything is kept");
  const own = new Set(backups.filter(({ isGood, isAside }) => isGood && !isAside).map(groupOf));
  for (const group of groupsOf(backups)) {
    const good = group.filter(({ isGood }) => isGood);
    keepByPolicy(good, question, because);
    const [newest] = good;
    const why = whyTheLast(group, question);
    if (why !== null && newest && (!newest.isAside || !own.has(groupOf(newest)))) because(newest.id, why);
    const meant = meantToStay(group, question);
    for (const bad of group) {
      if (bad.isGood) continue;
      // it may still be mended from another storage, or hold the last good piece itself
      if (why !== null && (newest === undefined || newest.createdAt <= bad.createdAt))
        because(bad.id, "damaged here, and nothing newer is good: jbackup verify --heal mends it");
      else if (meant.has(bad.id))
        because(bad.id, "damaged here, and the policy would keep it: jbackup verify --heal mends it");
    }
  }
  for (const { id } of backups) {
    const pin = pins.get(id);
    if (pin !== undefined) because(id, `pinned: ${pin}`);
    const held = question.held?.get(id);
    if (held !== undefined) because(id, held);
  }
  keepWindow(question, because);
  for (const backup of backups) {
    const paused = keep.has(backup.id) ? null : question.paused(backup);
    if (paused !== null) because(backup.id, paused);
  }
  keepNeeded(backups, keep);
  return { keep, remove: backups.filter(({ id }) => !keep.has(id)).map(({ id }) => id) };
}

function goneOf([first]: KeptBackup[], { gone }: RetentionQuestion): Gone | undefined {
  return first?.kind === "tenant" && first.tenantId !== null ? gone?.get(first.tenantId) : undefined;
}

/** Whoever deleted a tenant by mistake has this long to notice, or as long as the window lets its rows be read at all. */
const REGRET_MS = 30 * 86_400_000;

/** Why the last good one of a group stays whatever the policy says; null when the tenant is gone for good. */
function whyTheLast(group: KeptBackup[], question: RetentionQuestion): string | null {
  const gone = goneOf(group, question);
  if (gone === undefined) return "the newest good one of its kind";
  const untilMs = gone.since.getTime() + Math.max(REGRET_MS, question.pitrWindowMs);
  if (question.now.getTime() > untilMs) return null;
  return `the last one of a tenant who is gone since ${gone.since.toISOString()}: kept until ${new Date(untilMs).toISOString()}`;
}

/** In front of what there is, whatever was not there to be backed up any more. */
function withMissing(group: KeptBackup[], question: RetentionQuestion): KeptBackup[] {
  const [newest] = group;
  const seen = (newest && goneOf(group, question)?.seen) ?? [];
  const missing = seen
    .filter((at) => newest !== undefined && at > newest.createdAt)
    .toSorted((a, b) => b.getTime() - a.getTime())
    .map((at) => ({
      ...(newest as KeptBackup),
      id: `missing at ${at.toISOString()}`,
      createdAt: at,
      endedAt: at,
    }));
  return [...missing, ...group];
}

/** What the policy and the window would keep if all of it were good. A damaged one never counts for a good one, but stays beside it. */
function meantToStay(group: KeptBackup[], question: RetentionQuestion): Set<string> {
  const meant = new Set<string>();
  const whole = group.map((backup) => ({ ...backup, isGood: true }));
  const because = (id: string): void => void meant.add(id);
  keepByPolicy(whole, question, because);
  keepWindow({ ...question, backups: whole }, because);
  return meant;
}

type Because = (id: string, reason: string) => void;

/** Newest first in each. */
function groupsOf(backups: KeptBackup[]): KeptBackup[][] {
  const groups = new Map<string, KeptBackup[]>();
  for (const backup of backups) {
    const group = `${groupOf(backup)}${backup.isAside ? " aside" : ""}`;
    groups.set(group, [...(groups.get(group) ?? []), backup]);
  }
  return [...groups.values()].map((group) =>
    group.toSorted((a, b) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1)),
  );
}

function keepByPolicy(stored: KeptBackup[], question: RetentionQuestion, give: Because): void {
  const { policy, now } = question;
  if (policy === null) return;
  const { withinMs, last } = policy;
  const group = withMissing(stored, question);
  const ids = new Set(stored.map(({ id }) => id));
  const because: Because = (id, reason) => {
    if (ids.has(id)) give(id, reason);
  };
  const [newest] = group;
  const then = newest && question.isFailing?.(newest) ? newest.createdAt : now;
  if (withinMs !== undefined)
    for (const { id, createdAt } of group)
      if (now.getTime() - createdAt.getTime() <= withinMs) because(id, "younger than the policy's span");
      else if (then.getTime() - createdAt.getTime() <= withinMs)
        because(id, "newer backups of its kind failed: nothing more expires until one succeeds");
  for (const { id } of group.slice(0, last ?? 0)) because(id, `one of the last ${last}`);
  for (const [name, periodOf] of PERIODS) {
    const seen = new Set<string>();
    for (const { id, createdAt } of group) {
      const period = periodOf(createdAt);
      if (seen.has(period) || seen.size >= (policy[name] ?? 0)) continue;
      seen.add(period);
      because(id, `${name}, for ${period}`);
    }
  }
}

/** A base for every moment of the window: those in it, and the last one before it. */
function keepWindow(question: RetentionQuestion, because: Because): void {
  const { backups, pitrWindowMs, policy, newestTimeline } = question;
  if (policy === null) return;
  for (const { id, place } of windowBases(backups, pitrWindowMs, windowEnd(question), newestTimeline))
    because(id, REASONS[place]);
}

const isBase = ({ kind, method, isGood }: KeptBackup): boolean =>
  kind === "full" && method === "physical" && isGood;

/** Now, or the newest good base while newer ones fail: the window does not move on without them. */
export function windowEnd({
  backups,
  now,
  isFailing,
}: Pick<RetentionQuestion, "backups" | "now" | "isFailing">): Date {
  const failing = backups.filter((backup) => isBase(backup) && isFailing?.(backup));
  return failing.length === 0 ? now : new Date(Math.max(...failing.map(({ endedAt }) => endedAt.getTime())));
}

const REASONS = {
  inside: "a base inside the recovery window",
  before: "the base for the beginning of the recovery window",
  earlier: "a base from before the newest timeline, which may be the one that leads to it",
};

/**
 * After a recovery that took over, the newest base of the timeline that was left may lie beyond the point where it was left, and
 * lead nowhere. Until the newest timeline has a base for the beginning of the window, every earlier one stays.
 */
function windowBases(
  backups: KeptBackup[],
  pitrWindowMs: number,
  now: Date,
  newestTimeline = 0,
): { id: string; place: keyof typeof REASONS }[] {
  const from = now.getTime() - pitrWindowMs;
  const bases = backups.filter(isBase).toSorted((a, b) => b.endedAt.getTime() - a.endedAt.getTime());
  const inside = bases.filter(({ endedAt }) => endedAt.getTime() > from);
  const [before, ...earlier] = bases.filter(({ endedAt }) => endedAt.getTime() <= from);
  const newest = Math.max(newestTimeline, ...bases.map(({ timeline }) => timeline ?? 0));
  const isLed = [before, ...earlier].some((base) => (base?.timeline ?? 0) === newest);
  const as = (place: keyof typeof REASONS) => (backup: KeptBackup) => ({ id: backup.id, place });
  return [
    ...inside.map(as("inside")),
    ...(before ? [before].map(as("before")) : []),
    ...(isLed ? [] : earlier.map(as("earlier"))),
  ];
}

/** The oldest base of the recovery window: WAL from its beginning on is needed. Null while there is none. */
export function oldestWindowBase(
  backups: KeptBackup[],
  pitrWindowMs: number,
  now: Date,
  newestTimeline?: number,
): string | null {
  return windowBases(backups, pitrWindowMs, now, newestTimeline).at(-1)?.id ?? null;
}

function keepNeeded(backups: KeptBackup[], keep: Map<string, string[]>): void {
  const known = new Map(backups.map((backup) => [backup.id, backup]));
  const waiting = [...keep.keys()];
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop())
    for (const needed of known.get(id)?.needs ?? []) {
      if (!known.has(needed)) continue;
      if (!keep.has(needed)) waiting.push(needed);
      const reasons = keep.get(needed) ?? [];
      const reason = "a kept backup builds on it";
      if (!reasons.includes(reason)) keep.set(needed, [...reasons, reason]);
    }
}
