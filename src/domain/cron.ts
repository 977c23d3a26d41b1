/** Times of day and year at which a job runs, in UTC. */
export interface Cron {
  minutes: ReadonlySet<number>;
  hours: ReadonlySet<number>;
  days: ReadonlySet<number>;
  months: ReadonlySet<number>;
  weekdays: ReadonlySet<number>;
  /** Both a day of the month and of the week are given, neither with a star: either is enough, as in every cron. */
  isEitherDay: boolean;
}

export type ParsedCron = { ok: true; cron: Cron } | { ok: false; problem: string };

interface Field {
  name: string;
  from: number;
  to: number;
  words?: readonly string[];
}

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: readonly Field[] = [
  { name: "minute", from: 0, to: 59 },
  { name: "hour", from: 0, to: 23 },
  { name: "day of the month", from: 1, to: 31 },
  { name: "month", from: 1, to: 12, words: MONTHS },
  { name: "day of the week", from: 0, to: 7, words: WEEKDAYS },
];

/** Five fields as cron knows them: numbers, names, ranges, lists and steps. */
export function parseCron(text: string): ParsedCron {
  const parts = text.trim().split(/\s+/);
  if (parts.length !== FIELDS.length)
    return { ok: false, problem: 'expected five cron fields such as "0 2 * * *"' };
  const sets: Set<number>[] = [];
  for (const [at, field] of FIELDS.entries()) {
    const set = parseField(parts[at] as string, field);
    if (typeof set === "string") return { ok: false, problem: set };
    sets.push(set);
  }
  const [minutes, hours, days, months, weekdays] = sets as [
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
  ];
  if (weekdays.delete(7)) weekdays.add(0);
  const isEitherDay = !parts[2]?.startsWith("*") && !parts[4]?.startsWith("*");
  const cron: Cron = { minutes, hours, days, months, weekdays, isEitherDay };
  return isPossible(cron)
    ? { ok: true, cron }
    : { ok: false, problem: `"${text.trim()}" names a day that never comes` };
}

function parseField(text: string, field: Field): Set<number> | string {
  const found = new Set<number>();
  for (const part of text.split(",")) {
    const match = /^(\*|[0-9a-z]+)(?:-([0-9a-z]+))?(?:\/(\d+))?$/i.exec(part);
    if (!match) return `the ${field.name} cannot be "${part}"`;
    const [, first = "", last, step] = match;
    const from = first === "*" ? field.from : numberIn(first, field);
    const to =
      first === "*" || (last === undefined && step !== undefined) ? field.to : numberIn(last ?? first, field);
    const every = step === undefined ? 1 : Number(step);
    const isRight =
      from !== null && to !== null && from >= field.from && to <= field.to && from <= to && every >= 1;
    if (!isRight || (first === "*" && last !== undefined))
      return `the ${field.name} cannot be "${part}": it is from ${field.from} to ${field.to}`;
    for (let value = from; value <= to; value += every) found.add(value);
  }
  return found;
}

function numberIn(text: string, { words, from }: Field): number | null {
  if (/^\d+$/.test(text)) return Number(text);
  const at = words?.indexOf(text.toLowerCase()) ?? -1;
  return at === -1 ? null : at + (from === 1 ? 1 : 0);
}

const LONGEST_MONTHS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

function isPossible({ days, months, isEitherDay }: Cron): boolean {
  if (isEitherDay) return true;
  const first = Math.min(...days);
  return [...months].some((month) => first <= (LONGEST_MONTHS[month - 1] as number));
}

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** February 29th may be eight years away. */
const FURTHEST_DAYS = 366 * 9;

const isDay = (cron: Cron, at: Date): boolean => {
  if (!cron.months.has(at.getUTCMonth() + 1)) return false;
  const isOfMonth = cron.days.has(at.getUTCDate());
  const isOfWeek = cron.weekdays.has(at.getUTCDay());
  return cron.isEitherDay ? isOfMonth || isOfWeek : isOfMonth && isOfWeek;
};

/** The first time after this one. */
export const nextRun = (cron: Cron, after: Date): Date => search(cron, floorMinute(after) + MINUTE_MS, 1);

/** The last time up to and including this one. */
export const previousRun = (cron: Cron, before: Date): Date => search(cron, floorMinute(before), -1);

const floorMinute = (at: Date): number => Math.floor(at.getTime() / MINUTE_MS) * MINUTE_MS;
const startOf = (ms: number, unit: number): number => Math.floor(ms / unit) * unit;

/** Whole days and hours that cannot be meant are passed over at once. */
function search(cron: Cron, fromMs: number, direction: 1 | -1): Date {
  const skip = (ms: number, unit: number): number =>
    direction === 1 ? startOf(ms, unit) + unit : startOf(ms, unit) - MINUTE_MS;
  let at = fromMs;
  for (let steps = 0; steps < FURTHEST_DAYS + 24 + 60; ) {
    const date = new Date(at);
    if (!isDay(cron, date)) {
      at = skip(at, DAY_MS);
      steps++;
    } else if (!cron.hours.has(date.getUTCHours())) at = skip(at, HOUR_MS);
    else if (!cron.minutes.has(date.getUTCMinutes())) at += direction * MINUTE_MS;
    else return date;
  }
  throw new RangeError("no such time"); // parseCron lets only times through that come
}
