import type { RetentionPolicy } from "./retention.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A year, and a month to ask for it. */
const LEAST_MS = 400 * DAY_MS;

/** How far back the rules of a storage reach. */
const reachMs = ({ withinMs, hourly, daily, weekly, monthly, yearly }: RetentionPolicy): number =>
  Math.max(
    withinMs ?? 0,
    (hourly ?? 0) * HOUR_MS,
    (daily ?? 0) * DAY_MS,
    (weekly ?? 0) * 7 * DAY_MS,
    (monthly ?? 0) * 31 * DAY_MS,
    (yearly ?? 0) * 366 * DAY_MS,
  );

/** How long reports of test restores stay: as long as some rule may keep the backup that was tested, and never less than 400 days. */
export const reportsStayMs = (policies: readonly RetentionPolicy[]): number =>
  Math.max(LEAST_MS, ...policies.map(reachMs));

const NAME = /^test-restore-(.+)-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)\.(?:txt|json|html)$/;

/** The files of this site's reports whose time is over. The newest report stays, however old: it is the last proof. */
export function expiredReports(
  names: readonly string[],
  { site, stayMs, now }: { site: string; stayMs: number; now: Date },
): string[] {
  const own = names.flatMap((name) => {
    const [, of, ...time] = NAME.exec(name) ?? [];
    const [year, month, day, hour, minute, second] = time.map(Number);
    if (of !== site || year === undefined || month === undefined) return [];
    return [{ name, madeMs: Date.UTC(year, month - 1, day, hour, minute, second) }];
  });
  const newestMs = Math.max(...own.map(({ madeMs }) => madeMs));
  return own
    .filter(({ madeMs }) => madeMs < newestMs && now.getTime() - madeMs > stayMs)
    .map(({ name }) => name);
}
