import type { Clock } from "../../sys/clock.js";

const NOTED_MS = 2_000;

/** Answers by how much the clock on the wall was set since the last call: 0 for what clocks do by themselves. */
export function jumpOf(clock: Clock): () => number {
  let wallMs = clock.now().getTime();
  let monotonicMs = clock.monotonicMs();
  return () => {
    const [wall, monotonic] = [clock.now().getTime(), clock.monotonicMs()];
    const jump = wall - wallMs - (monotonic - monotonicMs);
    [wallMs, monotonicMs] = [wall, monotonic];
    return Math.abs(jump) < NOTED_MS ? 0 : jump;
  };
}
