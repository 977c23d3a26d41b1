import { setTimeout as delay } from "node:timers/promises";
import { JBackupError } from "../domain/errors.js";

/** Somebody waits for the answer: what does not come by then is named instead. */
export const PROBE_MS = 3_000;

/** The work's result, or a failure when it takes too long; what it comes to later is nobody's business. */
export async function inTime<Result>(work: Promise<Result>, what: string, ms = PROBE_MS): Promise<Result> {
  const ended = new AbortController();
  const late = delay(ms, undefined, { signal: ended.signal }).then(
    () => {
      throw new JBackupError("failed", `${what} did not answer within ${ms / 1_000} s`);
    },
    () => new Promise<never>(() => {}),
  );
  work.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    ended.abort();
  }
}
