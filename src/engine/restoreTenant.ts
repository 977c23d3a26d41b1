import type { Restore } from "../domain/backup.js";
import { JBackupError, reasonOf } from "../domain/errors.js";
import type { TenantPlan, TenantRestored } from "../postgres/postgres.js";
import { lockOnServer } from "./lock.js";
import type { Outcome } from "./restore/outcome.js";
import { JOB, recorded } from "./restore/record.js";
import { type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";
import { sealingKeys } from "./siteKeys.js";
import { type RestoreTarget, runAfter, safetyBackup, spelled, suspended } from "./tenants/care.js";
import { requireDecided, tenantGraph, tenantSettings } from "./tenants/graph.js";
import { type OriginTimes, type TenantOrigin, tenantOrigins } from "./tenants/origins.js";
import { doneInQueue, queueOf } from "./tenants/queue.js";

export interface TenantRestoreRequest {
  reference: string;
  to: string | null;
  tenants: string[];
  mode: "full" | "merge";
  createMissing: boolean;
  updateExisting: boolean;
  deleteNew: boolean;
  asTenant: string | null;
  tables: string[];
  withShared: boolean;
  triggers: "off" | "fire";
  prove: "full" | "counters";
  expectPlan: string | null;
  intoDatabase: string | null;
  /** Whether the tenant is backed up as it is before it is overwritten. */
  savesFirst: boolean;
  reason: string;
}

/** One tenant's plan, with where its rows come from. */
export interface TenantRestorePlan extends TenantPlan {
  backupId: string;
  label: string;
  target: string;
  /** The id that must be typed, when rows would be overwritten. */
  overwrites: string | null;
}

export interface TenantsRestored {
  /** What the answer is: of several tenants the sum. */
  restore: Restore;
  tenants: {
    tenantId: string;
    restoreId: string | null;
    status: "completed" | "failed" | "skipped";
    error: string | null;
  }[];
}

/** What a restore of tenants would do, to the row. Nothing is written. */
export async function planTenants(site: Site, request: TenantRestoreRequest): Promise<TenantRestorePlan[]> {
  return alone(site, async (run) => {
    const origins = await tenantOrigins(site, run, request, {});
    return withTarget(site, request, async (target) =>
      plansOf(site, await spelled(site, request, target), origins, target),
    );
  });
}

/** Brings tenants back, one after another, each in one transaction that is proved before it is committed. */
export async function restoreTenants(
  site: Site,
  request: TenantRestoreRequest,
  confirm: (plans: TenantRestorePlan[]) => Promise<void>,
): Promise<TenantsRestored> {
  return alone(site, async (run) => {
    const times: OriginTimes = {};
    const origins = await tenantOrigins(site, run, request, times);
    return withTarget(site, request, async (target) => {
      const wish = await spelled(site, request, target);
      const plans = await plansOf(site, wish, origins, target);
      requireUnblocked(plans);
      await confirm(plans);
      const done = await restoreEach(site, run, wish, origins, target, times);
      return { restore: summed(done), tenants: done.map(({ state }) => state) };
    });
  });
}

/** One restore at a time, on this host and on the server. */
async function alone<Result>(site: Site, work: (run: RunContext) => Promise<Result>): Promise<Result> {
  return withRun(site, JOB, async (run) => {
    const admin = await (await site.postgres()).admin();
    try {
      await lockOnServer(site, admin, JOB);
      await run.settleKilled();
      return await work(run);
    } finally {
      await admin.close();
    }
  });
}

async function withTarget<Result>(
  site: Site,
  { intoDatabase }: TenantRestoreRequest,
  work: (target: RestoreTarget) => Promise<Result>,
): Promise<Result> {
  const postgres = await site.postgres();
  const session = await postgres.connect(intoDatabase ?? undefined);
  try {
    const graph = await tenantGraph(site, postgres, session);
    requireDecided(graph);
    return await work({ name: intoDatabase ?? postgres.database, postgres, session, graph });
  } finally {
    await session.close();
  }
}

async function plansOf(
  site: Site,
  request: TenantRestoreRequest,
  origins: TenantOrigin[],
  target: RestoreTarget,
): Promise<TenantRestorePlan[]> {
  const plans: TenantRestorePlan[] = [];
  for (const origin of origins) {
    const { proof: _, ...plan } = await restoreRows(site, request, origin, target, true);
    plans.push({ ...plan, ...placeOf(request, origin, target, plan) });
  }
  return plans;
}

const targetIdOf = ({ asTenant }: TenantRestoreRequest, { facts }: TenantOrigin): string =>
  asTenant ?? facts.id;

function placeOf(
  request: TenantRestoreRequest,
  origin: TenantOrigin,
  target: RestoreTarget,
  plan: TenantPlan,
): Pick<TenantRestorePlan, "backupId" | "label" | "target" | "overwrites"> {
  const { backupId, label } = origin.found.manifest.body;
  const changes = plan.tables.some(({ updated, deleted }) => updated + deleted > 0);
  return {
    backupId,
    label,
    target: target.name,
    overwrites: changes ? targetIdOf(request, origin) : null,
  };
}

function requireUnblocked(plans: TenantRestorePlan[]): void {
  const blocked = plans.filter(({ blockers }) => blockers.length > 0);
  if (blocked.length === 0) return;
  const blockers = blocked.flatMap((plan) => plan.blockers);
  throw new JBackupError(
    "target_refused",
    `tenant ${blocked.map(({ tenantId }) => tenantId).join(", ")} cannot be restored like this: ${blockers.join("; ")}`,
    {
      hint: "nothing was changed; --dry-run shows the whole plan, --tables restores a part, --into-db goes elsewhere",
      details: { blockers },
    },
  );
}

function restoreRows(
  site: Site,
  request: TenantRestoreRequest,
  { opened, facts }: TenantOrigin,
  { postgres, session, graph }: RestoreTarget,
  isDryRun: boolean,
): Promise<TenantRestored> {
  const { erasures } = tenantSettings(site);
  const isFull = request.mode === "full";
  return postgres.tenants.restore({
    session,
    graph,
    facts,
    read: (entry) => opened.read(opened.entry(entry)),
    changes: isFull
      ? { createMissing: true, updateExisting: true, deleteNew: true }
      : {
          createMissing: request.createMissing,
          updateExisting: request.updateExisting,
          deleteNew: request.deleteNew,
        },
    tables: request.tables,
    withShared: request.withShared,
    triggers: request.triggers,
    cloning: request.asTenant === null ? null : { oldId: facts.id, newId: request.asTenant },
    erasures: erasures ?? null,
    expectPlan: request.expectPlan,
    provesOthers: request.prove === "full",
    isDryRun,
    signal: site.signal,
    cancel: async (pid) => {
      const other = await postgres.connect();
      await other.rows("select pg_cancel_backend($1)::text as sent", [pid]);
      await other.close();
    },
    onStaged: () => site.step("tenant-staged"),
    onWritten: () => site.step("tenant-written"),
    onProved: () => site.step("tenant-proved"),
    onCommitted: () => site.step("tenant-committed"),
  });
}

interface Done {
  state: TenantsRestored["tenants"][number];
  restore: Restore | null;
}

async function restoreEach(
  site: Site,
  run: RunContext,
  request: TenantRestoreRequest,
  origins: TenantOrigin[],
  target: RestoreTarget,
  times: OriginTimes,
): Promise<Done[]> {
  const queue = queueOf(request, origins);
  const before = origins.length > 1 ? await doneInQueue(site, queue, origins.length) : new Set<string>();
  const done: Done[] = [];
  for (const origin of origins) {
    const tenantId = targetIdOf(request, origin);
    site.report.progress({
      task: "restoring tenants",
      done: done.length,
      total: origins.length,
      unit: "tenants",
    });
    if (before.has(tenantId)) {
      site.report.info(`tenant ${tenantId} was restored already by the run before`);
      done.push({ state: { tenantId, restoreId: null, status: "skipped", error: null }, restore: null });
      continue;
    }
    try {
      const restore = await restoreOne(site, run, request, origin, target, { times, queue });
      done.push({ state: { tenantId, restoreId: restore.id, status: "completed", error: null }, restore });
    } catch (error) {
      site.signal.throwIfAborted();
      if (origins.length === 1 || !(error instanceof JBackupError)) throw error;
      site.report.warn(`tenant ${tenantId}: ${error.message}`);
      done.push({
        state: { tenantId, restoreId: null, status: "failed", error: reasonOf(error) },
        restore: null,
      });
    }
  }
  site.report.progressEnd();
  return done;
}

async function restoreOne(
  site: Site,
  run: RunContext,
  request: TenantRestoreRequest,
  origin: TenantOrigin,
  target: RestoreTarget,
  { times, queue }: { times: OriginTimes; queue: string },
): Promise<Restore> {
  const { body } = origin.found.manifest;
  const { source } = origin.facts;
  const tenantId = targetIdOf(request, origin);
  const recording = {
    plan: {
      backupId: body.backupId,
      label: body.label,
      target: target.name,
      warnings: [],
      way: request.asTenant === null ? `tenant-${request.mode}` : "tenant-clone",
    },
    mode: request.to === null ? request.mode : ("pitr" as const),
    reason: request.reason,
    targetTime: source.kind === "backup" && request.to !== null ? source.moment : null,
    tenantIds: [tenantId],
    metadata: { queue, tenantId },
  };
  return recorded(site, run, recording, async () => {
    const safety =
      request.savesFirst && request.intoDatabase === null
        ? await safetyBackup(site, run, tenantId, target, body.backupId)
        : null;
    site.step("tenant-saved");
    const startedAt = site.clock.monotonicMs();
    const restored = await suspended(site, target, tenantId, () =>
      restoreRows(site, request, origin, target, false),
    );
    if (restored.blockers.length > 0)
      requireUnblocked([{ ...restored, ...placeOf(request, origin, target, restored) }]);
    const afterwards = await runAfter(site, target);
    return outcomeOf(
      site,
      { ...restored, warnings: [...restored.warnings, ...afterwards] },
      { ...times, restoredMs: Math.round(site.clock.monotonicMs() - startedAt) },
      safety,
    );
  });
}

/** The proof is signed: evidence for whoever asks later what was done to whom. */
async function outcomeOf(
  site: Site,
  { tables, warnings, proof, planHash, tenantId }: TenantRestored,
  times: OriginTimes & { restoredMs: number },
  safetyBackupId: string | null,
): Promise<Outcome> {
  const { signing } = await sealingKeys(site);
  const report = { tenantId, planHash, tables, proof };
  const signature = site.format.signDetached(Buffer.from(JSON.stringify(report)), signing, "tenant restore");
  return {
    tables: tables.map(({ conflicts: _, ...table }) => table),
    rowsRestored: tables.reduce((sum, { inserted, updated }) => sum + inserted + updated, 0),
    warnings,
    metadata: { planHash, report, signature, times, safetyBackupId },
  };
}

function summed(done: Done[]): Restore {
  const restores = done.flatMap(({ restore }) => (restore === null ? [] : [restore]));
  const [first] = restores;
  const failures = done.filter(({ state }) => state.status === "failed");
  if (first === undefined)
    throw new JBackupError(
      failures.length > 0 ? "failed" : "conflict",
      failures.length > 0
        ? `no tenant was restored: ${failures.map(({ state }) => `${state.tenantId}: ${state.error}`).join("; ")}`
        : "every tenant was restored already by the run before",
      { hint: "jbackup restores shows what was done" },
    );
  if (done.length === 1) return first;
  const tables = Map.groupBy(
    restores.flatMap((restore) => restore.tables),
    ({ table }) => table,
  );
  return {
    ...first,
    status: failures.length > 0 ? "failed" : "completed",
    tenantIds: restores.flatMap(({ tenantIds }) => tenantIds),
    rowsRestored: restores.reduce((sum, restore) => sum + restore.rowsRestored, 0),
    durationMs: restores.reduce((sum, restore) => sum + (restore.durationMs ?? 0), 0),
    tables: [...tables].map(([table, rows]) => ({
      table,
      inserted: rows.reduce((sum, one) => sum + one.inserted, 0),
      updated: rows.reduce((sum, one) => sum + one.updated, 0),
      deleted: rows.reduce((sum, one) => sum + one.deleted, 0),
      unchanged: rows.reduce((sum, one) => sum + one.unchanged, 0),
    })),
    warnings: [...new Set(restores.flatMap(({ warnings }) => warnings))],
    metadata: { tenants: done.map(({ state }) => state) },
  };
}
