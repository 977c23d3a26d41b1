import type { Cron } from "./cron.js";

/**
 * The same times for systemd, in UTC. Where cron takes a day of the month or of the week, whichever comes, two lines are
 * needed: systemd wants both to hold.
 */
export function onCalendar(cron: Cron): string[] {
  const time = `${part(cron.hours, 0, 23)}:${part(cron.minutes, 0, 59)}:00 UTC`;
  const month = part(cron.months, 1, 12);
  const days = part(cron.days, 1, 31);
  const weekdays = weekdayPart(cron.weekdays);
  const line = (weekday: string, day: string): string =>
    `${weekday === "" ? "" : `${weekday} `}*-${month}-${day} ${time}`;
  if (!cron.isEitherDay) return [line(weekdays, days)];
  return days === "*" || weekdays === "" ? [line("", "*")] : [line("", days), line(weekdays, "*")];
}

const two = (value: number): string => String(value).padStart(2, "0");

function part(values: ReadonlySet<number>, from: number, to: number): string {
  if (values.size === to - from + 1) return "*";
  const sorted = [...values].sort((a, b) => a - b);
  return (
    steps(sorted, to) ??
    runs(sorted)
      .map(([first, last]) => (first === last ? two(first) : `${two(first)}..${two(last)}`))
      .join(",")
  );
}

/** `00/5` counts on to the end of its field. */
function steps(sorted: number[], to: number): string | null {
  const [first = 0, second = 0] = sorted;
  const step = second - first;
  const last = sorted.at(-1) ?? first;
  const isEven = sorted.every((value, at) => value === first + at * step);
  return sorted.length > 2 && step > 1 && isEven && last + step > to ? `${two(first)}/${step}` : null;
}

function runs(sorted: number[]): [first: number, last: number][] {
  const found: [number, number][] = [];
  for (const value of sorted) {
    const open = found.at(-1);
    if (open !== undefined && open[1] === value - 1) open[1] = value;
    else found.push([value, value]);
  }
  return found;
}

const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/** One by one: a week begins on different days here and there. */
const weekdayPart = (weekdays: ReadonlySet<number>): string =>
  weekdays.size === 7 ? "" : WEEKDAYS.filter((_, day) => weekdays.has(day)).join(",");
