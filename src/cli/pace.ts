import type { Progress } from "../engine/site.js";
import type { Clock } from "../sys/clock.js";

/** Where a task stands in time. */
export interface Standing {
  /** Another task than the time before. */
  isNew: boolean;
  elapsedMs: number;
  /** Of late, not since the start: a storage that slows down shows. */
  perSecond: number;
  leftMs: number | null;
}

const WINDOW_MS = 15_000;
const SAMPLE_EVERY_MS = 500;

export interface Pace {
  at(state: Progress): Standing;
  end(): void;
}

/** Remembers when a task began and how it went lately, and forgets it when another one begins. */
export function startPace(clock: Clock): Pace {
  let task: string | undefined;
  let startedMs = 0;
  let samples: { atMs: number; done: number }[] = [];
  const remember = (atMs: number, done: number): void => {
    if (atMs - (samples.at(-1)?.atMs ?? Number.NEGATIVE_INFINITY) < SAMPLE_EVERY_MS) return;
    samples.push({ atMs, done });
    while (samples.length > 2 && atMs - (samples[1]?.atMs ?? atMs) >= WINDOW_MS) samples.shift();
  };
  return {
    at({ task: current, done, total }) {
      const nowMs = clock.monotonicMs();
      const isNew = current !== task;
      if (isNew) {
        task = current;
        startedMs = nowMs;
        samples = [];
      }
      remember(nowMs, done);
      const oldest = samples[0] ?? { atMs: nowMs, done };
      const spanMs = nowMs - oldest.atMs;
      const perSecond = spanMs > 0 ? Math.max(0, ((done - oldest.done) / spanMs) * 1_000) : 0;
      const left = total === null || perSecond === 0 ? null : (Math.max(0, total - done) / perSecond) * 1_000;
      return { isNew, elapsedMs: nowMs - startedMs, perSecond, leftMs: left };
    },
    end() {
      task = undefined;
    },
  };
}
