/** How far something is from what it usually is, told in a sentence; null while it is as usual. */
export interface Usual {
  /** What the last ones came to, in any order. */
  before: readonly number[];
  now: number;
}

/** Fewer say nothing about what is usual. */
const ENOUGH = 4;
/** A standard deviation is this many times the median distance from the median, where chance alone is at work. */
const TO_SIGMA = 1.4826;
const SIGMAS = 5;

export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export function spreadOf(values: readonly number[]): number {
  const median = medianOf(values);
  return medianOf(values.map((value) => Math.abs(value - median))) * TO_SIGMA;
}

/** Relative to the median, and only when it is outside of what is usual by far: null, or by how much. */
export function deviationOf({ before, now }: Usual, leastPart: number): number | null {
  if (before.length < ENOUGH) return null;
  const median = medianOf(before);
  const apart = now - median;
  const allowed = Math.max(SIGMAS * spreadOf(before), leastPart * median);
  return Math.abs(apart) <= allowed || median === 0 ? null : apart / median;
}

/** "half the usual", "3.2 times the usual". */
export function comparedText(part: number): string {
  const ratio = 1 + part;
  if (ratio >= 1.95) return `${ratio.toFixed(1)} times the usual`;
  return `${Math.round(Math.abs(part) * 100)} % ${part < 0 ? "less" : "more"} than usual`;
}
