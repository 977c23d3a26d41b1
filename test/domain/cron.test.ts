import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Cron, nextRun, parseCron, previousRun } from "../../src/domain/cron.js";

const cronOf = (text: string): Cron => {
  const parsed = parseCron(text);
  if (!parsed.ok) throw new Error(parsed.problem);
  return parsed.cron;
};
const at = (text: string): Date => new Date(text);
const MINUTE = 60_000;

const field = (from: number, to: number): fc.Arbitrary<string> =>
  fc.oneof(
    fc.constant("*"),
    fc.integer({ min: from, max: to }).map(String),
    fc
      .tuple(fc.integer({ min: from, max: to }), fc.integer({ min: from, max: to }))
      .map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
    fc
      .uniqueArray(fc.integer({ min: from, max: to }), { minLength: 2, maxLength: 4 })
      .map((list) => list.join(",")),
  );
const schedules = fc
  .tuple(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6))
  .map((parts) => parts.join(" "));
const times = fc.date({
  min: at("2024-01-01T00:00:00Z"),
  max: at("2030-12-31T00:00:00Z"),
  noInvalidDate: true,
});

/** As cron's manual says it, minute by minute. */
function isMeant({ minutes, hours, days, months, weekdays, isEitherDay }: Cron, date: Date): boolean {
  const isDay = isEitherDay
    ? days.has(date.getUTCDate()) || weekdays.has(date.getUTCDay())
    : days.has(date.getUTCDate()) && weekdays.has(date.getUTCDay());
  return (
    minutes.has(date.getUTCMinutes()) &&
    hours.has(date.getUTCHours()) &&
    months.has(date.getUTCMonth() + 1) &&
    isDay
  );
}

describe("a schedule", () => {
  it("runs next at a time that is meant, later than now, with none in between", () =>
    fc.assert(
      fc.property(schedules, times, (text, now) => {
        const cron = cronOf(text);
        const next = nextRun(cron, now);
        expect(next > now && isMeant(cron, next)).toBe(true);
        expect(previousRun(cron, new Date(next.getTime() - MINUTE)) <= now).toBe(true);
        expect(previousRun(cron, next)).toEqual(next);
      }),
    ));

  it.each([
    ["0 2 * * *", "2026-11-25T12:00:00Z", "2026-11-26T02:00:00.000Z", "2026-11-25T02:00:00.000Z"],
    ["*/5 * * * *", "2026-11-25T12:01:30Z", "2026-11-25T12:05:00.000Z", "2026-11-25T12:00:00.000Z"],
    ["0 3 * * sun", "2026-11-25T12:00:00Z", "2026-11-29T03:00:00.000Z", "2026-11-22T03:00:00.000Z"],
    ["0 3 * * 7", "2026-11-25T12:00:00Z", "2026-11-29T03:00:00.000Z", "2026-11-22T03:00:00.000Z"],
    ["0 7 1 * *", "2026-11-25T12:00:00Z", "2026-12-01T07:00:00.000Z", "2026-11-01T07:00:00.000Z"],
    ["0 0 29 2 *", "2026-11-25T12:00:00Z", "2028-02-29T00:00:00.000Z", "2024-02-29T00:00:00.000Z"],
    ["0 0 13 * fri", "2026-11-25T12:00:00Z", "2026-11-27T00:00:00.000Z", "2026-11-20T00:00:00.000Z"],
    // a field that begins with a star leaves the choice of the day to the other one
    ["0 0 */2 * mon", "2026-11-25T12:00:00Z", "2026-12-07T00:00:00.000Z", "2026-11-23T00:00:00.000Z"],
  ])("%s, seen from %s", (text, now, next, previous) => {
    expect(nextRun(cronOf(text), at(now)).toISOString()).toBe(next);
    expect(previousRun(cronOf(text), at(now)).toISOString()).toBe(previous);
  });

  it.each([
    ["0 2 * *", 'expected five cron fields such as "0 2 * * *"'],
    ["60 2 * * *", 'the minute cannot be "60": it is from 0 to 59'],
    ["0 2 * * fry", 'the day of the week cannot be "fry": it is from 0 to 7'],
    ["0 2 31 2 *", '"0 2 31 2 *" names a day that never comes'],
    ["5-1 * * * *", 'the minute cannot be "5-1": it is from 0 to 59'],
    ["*/0 * * * *", 'the minute cannot be "*/0": it is from 0 to 59'],
    ["a;b * * * *", 'the minute cannot be "a;b"'],
  ])("%s is refused: %s", (text, problem) => {
    expect(parseCron(text)).toEqual({ ok: false, problem });
  });
});
