import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * For work that passes gigabytes through buffers and keeps few objects: every few dozen megabytes of buffers make V8 look
 * through all objects, and doing that bit by bit beside the work costs several times as much as doing it at once (15 ms).
 */
export function collectGarbageAtOnce(): void {
  setFlagsFromString("--no-incremental-marking");
}

/**
 * For work that goes on for long and keeps little: V8 lets garbage, and the buffers that hang on it, pile up to a multiple of
 * what is kept. Answers what collects it now (25 ms), to be called as often as V8 would do it by itself, or oftener.
 */
export function garbageCollector(): () => void {
  collectGarbageAtOnce();
  setFlagsFromString("--heap-growing-percent=20");
  // half of the room for new objects is enough, and what V8 waits for depends on it
  setFlagsFromString("--semi-space-growth-factor=1");
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
}
