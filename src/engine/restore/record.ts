import type { Restore } from "../../domain/backup.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { RestorePlan } from "../../domain/restorePlan.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { recordAudit } from "../audit.js";
import type { RunContext } from "../run.js";
import type { Site } from "../site.js";
import type { Outcome } from "./outcome.js";

export const JOB = "restore";

export interface Recording {
  plan: Pick<RestorePlan, "backupId" | "label" | "target" | "warnings"> & { way: string };
  mode: Restore["mode"];
  reason: string;
  targetTime: string | null;
  tenantIds?: string[];
  metadata?: Record<string, unknown>;
}

/** Adds to the record of a restore that is under way: what whoever comes after a crash has to know. */
export type Note = (metadata: Record<string, unknown>) => Promise<void>;

/** Who, why, when, what, how many rows and how long: recorded whatever happens. */
export async function recorded(
  site: Site,
  run: RunContext,
  { plan: planned, mode, reason, targetTime, tenantIds = [], metadata = {} }: Recording,
  work: (restoreId: string, note: Note) => Promise<Outcome>,
): Promise<Restore> {
  const started: Restore = {
    id: site.newId(),
    backupId: planned.backupId,
    mode,
    status: "in_progress",
    target: planned.target,
    targetTime,
    tenantIds,
    rowsRestored: 0,
    startedAt: run.startedAt.toISOString(),
    finishedAt: null,
    durationMs: null,
    tables: [],
    warnings: planned.warnings,
    error: null,
    reason,
    initiatedBy: run.by,
    jobId: run.id,
    metadata: { way: planned.way, label: planned.label, ...metadata },
  };
  await site.catalog.saveRestore(started);
  await audit(site, "restore.start", started);
  site.step("restore-recorded");
  const end = (rest: Partial<Restore>): Restore => {
    const finishedAt = site.clock.now();
    return {
      ...started,
      ...rest,
      finishedAt: finishedAt.toISOString(),
      durationMs: finishedAt.getTime() - run.startedAt.getTime(),
    };
  };
  try {
    const outcome = await work(started.id, async (more) => {
      started.metadata = { ...started.metadata, ...more };
      await site.catalog.saveRestore(started);
    });
    const done = end({
      status: "completed",
      tables: outcome.tables,
      rowsRestored: outcome.rowsRestored,
      warnings: [...started.warnings, ...outcome.warnings],
      metadata: { ...started.metadata, ...outcome.metadata },
    });
    await site.catalog.saveRestore(done);
    await audit(site, "restore.done", done);
    await resolveAlert(site, `failed:${JOB}`, `a restore into ${planned.target} succeeded`);
    await resolveAlert(site, `interrupted:${JOB}`, `a restore into ${planned.target} succeeded`);
    return done;
  } catch (error) {
    const failed = end({ status: site.signal.aborted ? "cancelled" : "failed", error: reasonOf(error) });
    await site.catalog.saveRestore(failed);
    await audit(site, "restore.failed", failed);
    if (!site.signal.aborted)
      await raiseAlert(site, {
        type: "RESTORE_FAILURE",
        severity: "error",
        fingerprint: `failed:${JOB}`,
        message: `restoring ${planned.label} into ${planned.target} failed: ${reasonOf(error)}`,
        hint: error instanceof JBackupError ? (error.hint ?? null) : null,
        backupId: planned.backupId,
      });
    throw error;
  } finally {
    site.report.progressEnd();
  }
}

const audit = (site: Site, action: string, restored: Restore): Promise<void> =>
  recordAudit(site, action, restored.target, {
    restoreId: restored.id,
    backupId: restored.backupId,
    reason: restored.reason,
    error: restored.error,
  });
