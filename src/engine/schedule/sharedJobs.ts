import { createHash } from "node:crypto";
import type { JobQueue, TakenWork } from "../../catalog/catalogs.js";
import { JBackupError } from "../../domain/errors.js";
import {
  isWorthAnotherTry,
  type RunEnd,
  SCHEDULED,
  type ScheduledName,
  TRIES,
} from "../../domain/schedule.js";
import type { Site } from "../site.js";
import { type JobEnd, runJob } from "./child.js";
import { doTaken } from "./shared.js";

/**
 * Jobs that the daemons of several hosts share: each offers what is due, which is one piece of work however many offer it,
 * and one of them takes it. What failed, or whose host died, is taken again by any of them.
 */
export interface SharedJobs {
  offer(name: ScheduledName, slot: Date): Promise<void>;
  take(name: ScheduledName): Promise<TakenWork | null>;
  /** How much was tried in vain and laid aside. */
  dead(): Promise<number>;
  /** Runs what was taken here; answers what came of it, and what that means. */
  run(
    name: ScheduledName,
    taken: TakenWork,
    onStart: (pid: number) => void,
  ): Promise<{ end: JobEnd; how: RunEnd }>;
}

/** Null where the catalog is a file: then there is nobody to share with. */
export async function openSharedJobs(
  site: Site,
  names: readonly ScheduledName[],
  retryPauseMs: number,
): Promise<SharedJobs | null> {
  const queue = await site.queue();
  if (queue === null) return null;
  for (const name of names) await queue.open(lineOf(name), { retryPauseMs, isSingle: true });
  return {
    offer: (name, slot) =>
      queue.offer(lineOf(name), [
        {
          id: idOf(`${site.config.site} ${name} ${slot.toISOString()}`),
          data: { name, slot: slot.toISOString() },
        },
      ]),
    take: (name) => queue.take(lineOf(name)),
    dead: () => queue.dead(),
    run: (name, taken, onStart) => runTaken(site, queue, name, taken, onStart),
  };
}

const lineOf = (name: ScheduledName): string => `job/${name}`;

/** The same for everybody who means the same. */
function idOf(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

async function runTaken(
  site: Site,
  queue: JobQueue,
  name: ScheduledName,
  taken: TakenWork,
  onStart: (pid: number) => void,
): Promise<{ end: JobEnd; how: RunEnd }> {
  let end: JobEnd = { exitCode: null, error: null, durationMs: 0 };
  let how: RunEnd = "succeeded";
  await doTaken(site, queue, lineOf(name), taken, async () => {
    end = await runJob(site, name, SCHEDULED[name].words, onStart);
    const { exitCode, error } = end;
    const isFine = exitCode === 0 || exitCode === 3;
    const isHopeless = !isWorthAnotherTry(exitCode) || taken.attempt > TRIES;
    how = isFine ? "succeeded" : isHopeless ? "given-up" : "failed";
    // what waiting does not cure is over, for every host; what was tried often enough is laid aside as dead
    if (isFine || !isWorthAnotherTry(exitCode)) return { exitCode, error };
    throw new JBackupError("failed", error ?? `exit ${exitCode}`);
  });
  return { end, how };
}
