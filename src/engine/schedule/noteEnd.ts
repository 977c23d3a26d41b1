import type { AlertType } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { type RunEnd, SCHEDULED, type ScheduledName } from "../../domain/schedule.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { deliverAlerts } from "../alerts/deliver.js";
import type { Site } from "../site.js";
import type { JobEnd } from "./child.js";

const TYPES: Partial<Record<ScheduledName, AlertType>> = {
  verify: "INTEGRITY_FAILURE",
  testRestore: "RESTORE_FAILURE",
};

/** A command tells of its own failures. That a job was given up, or killed again and again, nobody else would tell. */
export async function noteEnd(
  site: Site,
  name: ScheduledName,
  { exitCode, error, durationMs }: JobEnd,
  how: RunEnd,
  pauseMs: number,
): Promise<void> {
  const took = `${(durationMs / 1000).toFixed(1)} s`;
  const fingerprint = `schedule:${name}`;
  const why = error ?? `exit ${exitCode}`;
  if (how === "succeeded") {
    site.report.info(`${name}: done in ${took}${exitCode === 3 ? ", but not everywhere" : ""}`);
    await resolveAlert(site, fingerprint, `${name} succeeded`);
    return;
  }
  if (how === "failed") {
    site.report.warn(`${name}: failed after ${took}: ${why}; again in ${Math.round(pauseMs / 1000)} s`);
    return;
  }
  site.report.warn(`${name}: failed after ${took}: ${why}; given up until its next time`);
  if (await hasTold(site, name, exitCode)) return;
  await raiseAlert(site, {
    type: TYPES[name] ?? "BACKUP_FAILURE",
    severity: "error",
    fingerprint,
    message: `the scheduled ${SCHEDULED[name].title} failed and is given up until its next time: ${why}`,
    hint: `run it by hand to see why: jbackup ${SCHEDULED[name].words.join(" ")}`,
  });
  await deliverAlerts(site);
}

/** Problems that were found, objectives that were missed: exit codes of commands that alert by themselves. */
const TOLD_BY_THEMSELVES = [4, 15];

/** One trouble, one alert. */
async function hasTold(site: Site, name: ScheduledName, exitCode: number | null): Promise<boolean> {
  if (exitCode !== null && TOLD_BY_THEMSELVES.includes(exitCode)) return true;
  const fingerprint = `failed:${SCHEDULED[name].job}`;
  try {
    return (await site.catalog.alerts({ fingerprint, status: ["active", "acknowledged"] })).length > 0;
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    return false;
  }
}
