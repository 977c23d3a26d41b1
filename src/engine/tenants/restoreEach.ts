import type { Restore } from "../../domain/backup.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { TenantRestored } from "../../postgres/postgres.js";
import type { Outcome } from "../restore/outcome.js";
import { type Note, recorded } from "../restore/record.js";
import type { Agreement, Confirm, TenantRestoreRequest, TenantState } from "../restoreTenant.js";
import type { RunContext } from "../run.js";
import type { Site } from "../site.js";
import { type RestoreTarget, runAfter, safetyBackup, suspended } from "./care.js";
import type { OriginTimes } from "./origins.js";
import { type Planned, planOne, requireUnblocked, runRestore, targetIdOf } from "./planRestore.js";
import { placeInQueue } from "./queue.js";
import { evidenceOf, writtenIn } from "./report.js";

export interface Settled {
  state: TenantState;
  /** Null where nothing was done. */
  restore: Restore | null;
}

export interface Restoring {
  run: RunContext;
  request: TenantRestoreRequest;
  target: RestoreTarget;
  times: OriginTimes;
  confirm: Confirm;
  /** Nobody else is asked for: then a failure is the failure of the command. */
  isAlone: boolean;
}

export async function restoreEach(
  site: Site,
  restoring: Restoring,
  plans: Planned[],
  agreement: Agreement,
): Promise<Settled[]> {
  const settled: Settled[] = [];
  for (const planned of plans) {
    const { tenantId } = planned.plan;
    site.report.progress({
      task: "restoring tenants",
      done: settled.length,
      total: plans.length,
      unit: "tenants",
    });
    try {
      const restore = await restoreOne(site, restoring, planned, agreement);
      settled.push({ state: { tenantId, restoreId: restore.id, status: "completed", error: null }, restore });
    } catch (error) {
      site.signal.throwIfAborted();
      if (restoring.isAlone || !(error instanceof JBackupError)) throw error;
      site.report.warn(`tenant ${tenantId}: ${error.message}`);
      settled.push({
        state: { tenantId, restoreId: null, status: "failed", error: reasonOf(error) },
        restore: null,
      });
    }
  }
  site.report.progressEnd();
  return settled;
}

async function restoreOne(
  site: Site,
  restoring: Restoring,
  planned: Planned,
  agreement: Agreement,
): Promise<Restore> {
  const { run, request, target, times } = restoring;
  const { origin } = planned;
  const { body } = origin.found.manifest;
  const tenantId = targetIdOf(request, origin);
  const recording = {
    plan: {
      backupId: body.backupId,
      label: body.label,
      target: target.name,
      warnings: origin.warnings,
      way: request.asTenant === null ? `tenant-${request.mode}` : "tenant-clone",
    },
    mode: request.to === null ? request.mode : ("pitr" as const),
    reason: request.reason,
    targetTime: origin.source.kind === "backup" && request.to !== null ? origin.source.moment : null,
    tenantIds: [tenantId],
    metadata: { queue: placeInQueue(request, origin), tenantId },
  };
  return recorded(site, run, recording, async (_id, note) => {
    const safety =
      request.savesFirst && request.intoDatabase === null
        ? await safetyBackup(site, run, tenantId, target, body.backupId)
        : null;
    site.step("tenant-saved");
    const startedAt = site.clock.monotonicMs();
    const restored = await asAgreed(site, restoring, planned, agreement, note);
    const afterwards = await runAfter(site, target);
    return outcomeOf(
      site,
      { ...restored, warnings: [...restored.warnings, ...afterwards] },
      { ...times, restoredMs: Math.round(site.clock.monotonicMs() - startedAt) },
      safety,
    );
  });
}

/** Rows may change between the plan and the locks. Whoever looked at a plan gets that one, or is shown the new one. */
async function asAgreed(
  site: Site,
  { request, target, confirm }: Restoring,
  { origin, plan }: Planned,
  first: Agreement,
  note: Note,
): Promise<TenantRestored> {
  const { tenantId } = plan;
  let [shown, agreement] = [plan, first];
  for (;;) {
    const holdsTo = request.expectPlan ?? (agreement.isSeen ? shown.planHash : null);
    const mayOverwrite = agreement.mayOverwrite.includes(tenantId);
    try {
      const restored = await suspended(site, target, tenantId, () =>
        runRestore(site, request, origin, target, {
          isDryRun: false,
          holdsTo,
          mayOverwrite,
          onProved: async (proved) => note(await evidenceOf(site, proved)),
        }),
      );
      requireUnblocked([restored]);
      return restored;
    } catch (error) {
      if (!isPlanOver(error) || !agreement.isSeen || request.expectPlan !== null) throw error;
      site.report.warn(`rows of tenant ${tenantId} were changed meanwhile: here is what would be done now`);
      shown = await planOne(site, request, origin, target);
      requireUnblocked([shown]);
      agreement = await confirm([shown]);
    }
  }
}

const isPlanOver = (error: unknown): boolean =>
  isJBackupError(error, "conflict") && error.details?.planHash !== undefined;

async function outcomeOf(
  site: Site,
  restored: TenantRestored,
  times: OriginTimes & { restoredMs: number },
  safetyBackupId: string | null,
): Promise<Outcome> {
  return {
    ...writtenIn(restored),
    warnings: restored.warnings,
    metadata: { ...(await evidenceOf(site, restored)), times, safetyBackupId },
  };
}
