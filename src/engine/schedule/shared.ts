import type { JobQueue, TakenWork } from "../../catalog/catalogs.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { Site } from "../site.js";

const STILL_EVERY_MS = 4_000;

/** The queue that hosts share, or what to do to have one. */
export async function requireQueue(site: Site, what: string): Promise<JobQueue> {
  const queue = await site.queue();
  if (queue !== null) return queue;
  throw new JBackupError(
    "config_invalid",
    `${what} needs a catalog that several hosts can share, and this one is a file`,
    {
      hint: 'set catalog: {url: "postgresql://user@host/database"} in jbackup.yaml, on every host the same',
    },
  );
}

/** Does a piece of work that was taken, and says meanwhile that somebody is at it. */
export async function doTaken(
  site: Site,
  queue: JobQueue,
  line: string,
  { id }: TakenWork,
  work: () => Promise<Record<string, unknown>>,
): Promise<{ ok: true } | { ok: false; error: string }> {
  const beat = setInterval(() => {
    // a queue that is away for a while: what this work comes to is told when it is done
    queue.stillAtIt(line, id).catch(() => undefined);
  }, STILL_EVERY_MS);
  try {
    const output = await work();
    await persistently(site, () => queue.done(line, id, output));
    return { ok: true };
  } catch (error) {
    const why = site.signal.aborted ? "the worker was stopped" : reasonOf(error);
    await persistently(site, () => queue.failed(line, id, why));
    return { ok: false, error: why };
  } finally {
    clearInterval(beat);
  }
}

/** Else it would be done again by somebody, for no reason. */
async function persistently(site: Site, tell: () => Promise<void>): Promise<void> {
  const { rest } = await import("./rest.js");
  for (let tries = 1; ; tries++) {
    try {
      return await tell();
    } catch (error) {
      if (!isJBackupError(error, "catalog_unavailable")) throw error;
      if (tries === 5 || site.signal.aborted) {
        site.report.warn(`${reasonOf(error)}; this work will be done again`);
        return;
      }
      await rest(site.signal, 2_000 * tries);
    }
  }
}
