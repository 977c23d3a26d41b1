import type { AlertStatus, BackupStatus } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { groupOf, hasStopped, type KeptBackup } from "../../domain/retention.js";
import { JOB as FULL_JOB } from "../backup/record.js";
import { eachBackup } from "../eachBackup.js";
import type { Site } from "../site.js";
import { TESTS_FAILED } from "../testRestore/job.js";
import type { SurveyedBackup } from "../verify/survey.js";

const OPEN: AlertStatus[] = ["active", "acknowledged"];

/** What there is, as its manifests tell. */
interface Stored {
  backups: Pick<SurveyedBackup, "body">[];
}

export interface Pauses {
  paused(backup: KeptBackup): string | null;
  isFailing(backup: KeptBackup): boolean;
}

/**
 * While the newest backups of a kind fail nothing more of it expires by age. While the last test restore failed, or a damaged
 * page of the cluster is open, no full backup goes at all: what is old may be all that is good. Without the catalog nothing
 * is known of failures, and nothing is removed.
 */
export async function pauses(site: Site, survey: Stored): Promise<Pauses> {
  try {
    const failing = await failingGroups(site, survey);
    const damaged = (await site.catalog.alerts({ type: "INTEGRITY_FAILURE", status: OPEN })).some(
      ({ fingerprint }) => fingerprint.startsWith("damaged_page"),
    );
    const untrusted = await isOpen(site, TESTS_FAILED);
    const hasNewest = await fullBackupsGoOn(site, survey);
    return {
      isFailing: (backup) => failing.has(groupOf(backup)) || (backup.kind === "full" && !hasNewest),
      paused: ({ kind }) => {
        if (damaged && kind === "full")
          return "the cluster has damaged pages: older backups may hold them whole";
        if (untrusted && kind === "full")
          return "the last test restore failed: older backups may be all that can be restored";
        return null;
      },
    };
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(`the catalog cannot be read (${error.message}): nothing expires`);
    return {
      isFailing: () => false,
      paused: () => "the catalog cannot be read, so failures of newer backups are not known",
    };
  }
}

async function isOpen(site: Site, fingerprints: readonly string[]): Promise<boolean> {
  for (const fingerprint of fingerprints)
    if ((await site.catalog.alerts({ fingerprint, status: OPEN })).length > 0) return true;
  return false;
}

/** A backup that failed before it began has no record of its own; one that nobody begins any more has none at all. */
async function fullBackupsGoOn(site: Site, { backups }: Stored): Promise<boolean> {
  const madeAt = backups.flatMap(({ body }) => (body.kind === "full" ? [new Date(body.createdAt)] : []));
  return !(await isOpen(site, [`failed:${FULL_JOB}`])) && !hasStopped(madeAt, site.clock.now());
}

/** Kinds whose last attempt failed. The locks are held, so one that still says it is running was killed. */
async function failingGroups(site: Site, { backups }: Stored): Promise<Set<string>> {
  const newest = new Map<string, string>();
  for (const { body } of backups) {
    const group = groupOf(body);
    if (body.createdAt > (newest.get(group) ?? "")) newest.set(group, body.createdAt);
  }
  const failing = new Set<string>();
  const unusable: BackupStatus[] = ["failed", "interrupted", "in_progress"];
  for await (const backup of eachBackup(site.catalog, { status: unusable }))
    if (backup.createdAt > (newest.get(groupOf(backup)) ?? "")) failing.add(groupOf(backup));
  return failing;
}
