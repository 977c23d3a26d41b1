import { JBackupError } from "../domain/errors.js";
import { recordAudit } from "./audit.js";
import { JOB as FULL_JOB } from "./backup/record.js";
import { JOB as TENANT_JOB } from "./backupTenants.js";
import { applyPlan, type Removed } from "./cleanup/apply.js";
import { requireSane } from "./cleanup/guards.js";
import { type CleanupPlan, planCleanup } from "./cleanup/plan.js";
import { isPolicyNew, isRoutine, rememberCleaned, rememberPolicy } from "./cleanup/policyMark.js";
import { lockOnHost, lockOnServer } from "./lock.js";
import { onThisHost, withRun } from "./run.js";
import type { Site } from "./site.js";
import { trustedSigners } from "./siteKeys.js";
import { noteMeasures } from "./status/measure.js";
import { storagesForReading } from "./useStorages.js";
import { surveyStorages } from "./verify/survey.js";

export type { CleanupPlan } from "./cleanup/plan.js";

export interface CleanupRequest {
  dryRun: boolean;
}

export interface CleanupReport {
  plan: CleanupPlan;
  /** Null: nothing was removed, and why not. */
  removed: Removed | null;
  held: string | null;
}

export const CLEANUP_JOB = "cleanup";

/** Removes what no rule keeps. Plans from signed manifests alone, is checked before anything goes, and takes manifests first. */
export const cleanup = (
  site: Site,
  { dryRun }: CleanupRequest,
  confirm: (plan: CleanupPlan) => Promise<void>,
): Promise<CleanupReport> =>
  withRun(
    site,
    CLEANUP_JOB,
    async (run) => {
      await run.settleKilled(onThisHost(site));
      // a backup that is being made may refer to one that would go
      return withBackupsStopped(site, async () => {
        const plan = await lookAndPlan(site);
        await requireSane(site, plan);
        if (dryRun) return { plan, removed: null, held: null };
        if (await isPolicyNew(site)) {
          await rememberPolicy(site);
          const held = "the retention policy has changed: this was a dry run; run it again to carry it out";
          return { plan, removed: null, held };
        }
        await rememberPolicy(site);
        if (isSudden(plan) && (isOfTheGone(plan) || !(await isRoutine(site)))) await confirm(plan);
        site.step("cleanup-planned");
        const removed = await applyPlan(site, plan);
        await rememberCleaned(site);
        await noteMeasures(site, plan.survey.listed, removed.bytesIn);
        await recordAudit(site, "cleanup", site.config.site, {
          backups: removed.backups,
          objects: removed.objects,
          bytes: removed.bytes,
          reports: removed.reports,
          failed: removed.failed.length,
        });
        return { plan, removed, held: null };
      });
    },
    // a look at what would go is no cleanup
    { scope: dryRun ? "part" : "whole" },
  );

async function lookAndPlan(site: Site): Promise<CleanupPlan> {
  const signers = await trustedSigners(site);
  const { usable, lost } = await storagesForReading(site);
  const survey = await surveyStorages(site, { usable, lost, signers, only: null, onlyStorage: null });
  return planCleanup(site, survey);
}

const MOST_AT_ONCE = 0.2;

/** More than a fifth of what a storage holds, at once, is rarely what somebody meant. */
const isSudden = ({ storages }: CleanupPlan): boolean =>
  storages.some(({ remove, backups }) => remove.length > backups * MOST_AT_ONCE);

/** So many tenants at once are rarely erased: that goes on by itself no more than a new policy does. */
const isOfTheGone = ({ storages, gone }: CleanupPlan): boolean =>
  storages.some(({ remove, backups }) => {
    const theirs = remove.filter(({ body }) => gone.has(body.tenantId ?? ""));
    return theirs.length > backups * MOST_AT_ONCE;
  });

/** On this host and, as far as the server can be asked, on every other. */
async function withBackupsStopped<Result>(site: Site, work: () => Promise<Result>): Promise<Result> {
  const releases: (() => void)[] = [];
  const admin = await site
    .postgres()
    .then((postgres) => postgres.admin())
    .catch((error: unknown) => {
      if (!(error instanceof JBackupError) || error.code === "bug") throw error;
      site.report.warn(
        `the server cannot be asked (${error.message}): other hosts' backups are not held back`,
      );
      return null;
    });
  try {
    for (const job of [FULL_JOB, TENANT_JOB]) {
      releases.push(await lockOnHost(site, job));
      if (admin !== null) await lockOnServer(site, admin, job);
    }
    return await work();
  } finally {
    for (const release of releases) release();
    await admin?.close();
  }
}
