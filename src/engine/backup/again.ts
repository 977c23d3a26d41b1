import { setTimeout as pause } from "node:timers/promises";
import { isJBackupError, reasonOf } from "../../domain/errors.js";
import type { Postgres } from "../../postgres/postgres.js";
import type { Site } from "../site.js";

const WAIT_MS = 60_000;
const LOOK_EVERY_MS = 1_000;

/**
 * A server that restarts, or a connection that drops, fails the backup at hand, which is recorded as failed. When the server
 * is back soon, another one is made in its place, once.
 */
export async function againIfServerReturns<Result>(
  site: Site,
  postgres: Postgres,
  attempt: () => Promise<Result>,
): Promise<Result> {
  try {
    return await attempt();
  } catch (error) {
    if (site.signal.aborted || !isJBackupError(error, "postgres_unreachable")) throw error;
    site.report.warn(`${reasonOf(error)}; beginning anew when the server is back`);
    if (!(await isBackSoon(site, postgres))) throw error;
  }
  return attempt();
}

async function isBackSoon(site: Site, postgres: Postgres): Promise<boolean> {
  for (let waited = 0; waited < WAIT_MS; waited += LOOK_EVERY_MS) {
    // also keeps the labels of the two backups apart, which end in the second
    await pause(LOOK_EVERY_MS, undefined, { signal: site.signal });
    try {
      await (await postgres.admin()).close();
      return true;
    } catch (error) {
      if (!isJBackupError(error, "postgres_unreachable")) throw error;
    }
  }
  return false;
}
