import { setFlagsFromString } from "node:v8";

/**
 * For work that passes gigabytes through buffers and keeps few objects: every few dozen megabytes of buffers make V8 look
 * through all objects, and doing that bit by bit beside the work costs several times as much as doing it at once (15 ms).
 */
export function collectGarbageAtOnce(): void {
  setFlagsFromString("--no-incremental-marking");
}

/**
 * For work that goes on for long and keeps little: V8 otherwise lets garbage pile up to several times of what is kept, and
 * the memory of a run grows with its length.
 */
export function collectGarbageOften(): void {
  collectGarbageAtOnce();
  setFlagsFromString("--heap-growing-percent=20");
  setFlagsFromString("--semi-space-growth-factor=1");
}
