import { JBackupError, reasonOf } from "../../domain/errors.js";
import { SCHEDULED, SCHEDULED_NAMES } from "../../domain/schedule.js";
import type { Site } from "../site.js";

const LIMIT_MS = 5_000;

export type Beat = "start" | "success" | "fail";

/** Tells a watcher outside that a job begins or ends. Begins at once, delays nothing, and its own trouble is only said. */
export function beat(site: Site, job: string, what: Beat): Promise<void> {
  const name = SCHEDULED_NAMES.find((one) => SCHEDULED[one].job === job);
  const url = name === undefined ? undefined : site.config.alerts.heartbeats[name];
  return url === undefined ? Promise.resolve() : send(site, job, what, url);
}

async function send(
  site: Site,
  job: string,
  what: Beat,
  url: () => Promise<{ reveal(): string }>,
): Promise<void> {
  try {
    const base = (await url()).reveal().replace(/\/$/, "");
    await site.ping(what === "success" ? base : `${base}/${what}`, AbortSignal.timeout(LIMIT_MS));
  } catch (error) {
    const why = error instanceof JBackupError ? reasonOf(error) : "no answer";
    site.report.warn(`the heartbeat of ${job} was not taken: ${why}`);
  }
}
