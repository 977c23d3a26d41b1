import { expect, test } from "vitest";
import { jumpOf } from "../../src/engine/schedule/jumps.js";
import type { Clock } from "../../src/sys/clock.js";

test("a clock that is set is told from one that goes on, also while the machine slept", () => {
  let [wallMs, monotonicMs] = [Date.UTC(2026, 10, 20), 1_000];
  const clock: Clock = { now: () => new Date(wallMs), monotonicMs: () => monotonicMs };
  const jump = jumpOf(clock);
  const passes = (wall: number, monotonic: number): number => {
    wallMs += wall;
    monotonicMs += monotonic;
    return jump();
  };
  expect(passes(1_000, 1_000)).toBe(0);
  expect(passes(1_400, 1_000)).toBe(0);
  expect(passes(3_601_000, 1_000)).toBe(3_600_000);
  expect(passes(1_000, 1_000)).toBe(0);
  expect(passes(-7_199_000, 1_000)).toBe(-7_200_000);
  expect(passes(60_000, 60_000)).toBe(0);
});
