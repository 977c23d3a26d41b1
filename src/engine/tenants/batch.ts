import type { Backup, Run } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { exportTenants, JOB, sweepKilled, type TenantsBackup } from "../backupTenants.js";
import { lockOnServer, shareLockOnServer } from "../lock.js";
import { type RunContext, withRun } from "../run.js";
import { rest } from "../schedule/rest.js";
import type { Site } from "../site.js";
import type { TenantFailure } from "./storeTenants.js";

/** Some of the tenants of a queue: one worker's piece of work. */
export interface TenantBatch {
  id: string;
  /** What the batches of one order have in common. */
  order: string;
  orderedAt: string;
  tenants: string[];
  note: string | null;
  acceptShrunken: boolean;
  /** The first try has nothing of an earlier one to look for. */
  attempt: number;
}

export interface BatchDone {
  /** Ids of the backups, also those that a worker made before it died. */
  backups: string[];
  failed: TenantFailure[];
}

/**
 * Backs up the tenants of one batch, each once, however often the batch is begun: what a worker that was killed had
 * completed counts. Batches go on side by side, but never beside a backup of all tenants.
 */
export function backupBatch(site: Site, batch: TenantBatch): Promise<BatchDone> {
  const lock = `${JOB}.${batch.id}`;
  return withRun(
    site,
    JOB,
    async (run) => {
      const postgres = await site.postgres();
      const admin = await postgres.admin();
      try {
        await whenFree(site, () => shareLockOnServer(site, admin, JOB));
        // whoever was at it before is dead when this one is had: a session's locks go with it
        await whenFree(site, () => lockOnServer(site, admin, lock));
        const before = batch.attempt === 1 ? [] : await completedBefore(site, run, batch);
        const left = batch.tenants.filter((id) => !before.some(({ tenantId }) => tenantId === id));
        const done = left.length === 0 ? NOTHING : await backUp(site, run, batch, left);
        return {
          backups: [...before, ...done.backups].map(({ id }) => id),
          failed: done.failed,
        };
      } finally {
        await admin.close();
      }
    },
    {
      lock,
      judge: ({ failed }) => (failed.length === 0 ? "succeeded" : "partial"),
      scope: "part",
      metadata: { batch: batch.id, order: batch.order },
    },
  );
}

const LOOK_EVERY_MS = 1_000;
const PATIENCE_MS = 30 * 60_000;

/** A cleanup or a backup of all tenants ends at some time: it costs no try of this batch. */
async function whenFree(site: Site, lock: () => Promise<void>): Promise<void> {
  const startedMs = site.clock.monotonicMs();
  for (;;) {
    try {
      return await lock();
    } catch (error) {
      const isOver = site.clock.monotonicMs() - startedMs > PATIENCE_MS;
      if (!isJBackupError(error, "locked") || isOver) throw error;
    }
    await rest(site.signal, LOOK_EVERY_MS);
    site.signal.throwIfAborted();
  }
}

const NOTHING: Pick<TenantsBackup, "backups" | "failed"> = { backups: [], failed: [] };

const MOST_RUNS = 10_000;

async function completedBefore(
  site: Site,
  run: RunContext,
  { id, tenants, orderedAt }: TenantBatch,
): Promise<Backup[]> {
  const isOurs = (one: Run): boolean => one.metadata.batch === id;
  await sweepKilled(site, await run.settleKilled(isOurs));
  const runs = (await site.catalog.runs({ job: JOB, limit: MOST_RUNS })).filter(isOurs).map((one) => one.id);
  const found: Backup[] = [];
  for (const tenantId of tenants) {
    const backups = await site.catalog.backups({
      kind: "tenant",
      tenantId,
      status: ["completed", "verified"],
      since: orderedAt,
    });
    found.push(...backups.filter(({ jobId }) => runs.includes(jobId)).slice(0, 1));
  }
  return found;
}

/** A tenant may have gone since the order was given: that is no trouble of the others. */
async function backUp(
  site: Site,
  run: RunContext,
  { note, acceptShrunken }: TenantBatch,
  tenants: string[],
): Promise<Pick<TenantsBackup, "backups" | "failed">> {
  const postgres = await site.postgres();
  const request = { note, acceptShrunken, isPart: true };
  const origin = { postgres, source: { kind: "live" as const }, parentId: null };
  try {
    return await exportTenants(site, run, { ...request, tenants }, origin);
  } catch (error) {
    const gone = isJBackupError(error, "not_found") ? error.details?.unknown : undefined;
    if (!Array.isArray(gone)) throw error;
    const failed = gone.map((id: string) => ({ tenantId: id, error: "it is no tenant any more" }));
    const left = tenants.filter((id) => !gone.includes(id));
    if (left.length === 0) return { backups: [], failed };
    const done = await exportTenants(site, run, { ...request, tenants: left }, origin);
    return { backups: done.backups, failed: [...failed, ...done.failed] };
  }
}
