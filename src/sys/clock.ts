/** The only place that reads the current time. */
export interface Clock {
  now(): Date;
  /** Never jumps: for durations and time-outs. */
  monotonicMs(): number;
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
};
