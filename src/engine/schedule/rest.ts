import { setTimeout as delay } from "node:timers/promises";

/** Waits, or less when the run is to stop. */
export async function rest(signal: AbortSignal, ms: number): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
}
