import type { Restore } from "../domain/backup.js";
import type { TimelineWish } from "../domain/recoveryTarget.js";
import type { TenantPlan } from "../postgres/postgres.js";
import { lockOnServer } from "./lock.js";
import { JOB } from "./restore/record.js";
import { type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";
import { finishKilled, type RestoreTarget, spelled } from "./tenants/care.js";
import { requireDecided, tenantGraph } from "./tenants/graph.js";
import { type OriginTimes, type TenantOrigin, tenantOrigins } from "./tenants/origins.js";
import { planEach, requireOneUnblocked } from "./tenants/planRestore.js";
import { doneInQueue, placeInQueue } from "./tenants/queue.js";
import { restoreEach, type Settled } from "./tenants/restoreEach.js";
import { sumUp } from "./tenants/sumUp.js";

export interface TenantRestoreRequest {
  reference: string;
  to: string | null;
  /** Of the WAL to that moment; without it the one that was in force then. */
  timeline?: TimelineWish | undefined;
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
  /** Of the WAL that leads to the moment; null without any. */
  timeline: number | null;
  target: string;
  /** The id that must be typed, when rows would be overwritten. */
  overwrites: string | null;
}

export interface TenantState {
  tenantId: string;
  restoreId: string | null;
  status: "completed" | "failed" | "skipped";
  error: string | null;
}

export interface TenantsRestored {
  /** What the answer is: of several tenants the sum. */
  restore: Restore;
  tenants: TenantState[];
}

/** What somebody said to plans that he was asked about. */
export interface Agreement {
  /** He has looked at these very plans: what is done must be what he saw. */
  isSeen: boolean;
  /** Tenants whose rows may be overwritten. */
  mayOverwrite: string[];
}

export type Confirm = (plans: TenantRestorePlan[]) => Promise<Agreement>;

/** What a restore of tenants would do, to the row. Nothing is written. */
export async function planTenants(site: Site, request: TenantRestoreRequest): Promise<TenantRestorePlan[]> {
  return alone(site, async (run) => {
    const { origins, failed } = await tenantOrigins(site, run, request, {});
    return withTarget(site, request, async (target) => {
      const wish = await spelled(site, request, target);
      const { plans, blocked } = await planEach(site, wish, origins, target);
      const unread = failed.map(({ tenantId, error }) => unreadable(tenantId, error, target));
      return [...plans.map(({ plan }) => plan), ...blocked, ...unread];
    });
  });
}

/** Brings tenants back, one after another, each in one transaction that is proved before it is committed. One that cannot be brought back keeps no other from it. */
export async function restoreTenants(
  site: Site,
  request: TenantRestoreRequest,
  confirm: Confirm,
): Promise<TenantsRestored> {
  return alone(site, async (run) => {
    const times: OriginTimes = {};
    const { origins, failed } = await tenantOrigins(site, run, request, times);
    return withTarget(site, request, async (target) => {
      const wish = await spelled(site, request, target);
      const queued = origins.map((origin) => ({ origin, place: placeInQueue(wish, origin) }));
      const before = await doneInQueue(
        site,
        queued.map(({ place }) => place),
        target.session,
      );
      const left: TenantOrigin[] = [];
      const skipped: Settled[] = [];
      for (const { origin, place } of queued) {
        const done = before.get(place);
        const settled = done === undefined ? null : await doneBefore(site, wish, origin, target, done);
        if (settled === null) left.push(origin);
        else skipped.push(settled);
      }
      const { plans, blocked } = await planEach(site, wish, left, target);
      requireOneUnblocked(plans, blocked);
      const agreement = await confirm(plans.map(({ plan }) => plan));
      const settled: Settled[] = [
        ...skipped,
        ...failed.map(({ tenantId, error }) => notRestored(tenantId, error)),
        ...blocked.map(({ tenantId, blockers }) => notRestored(tenantId, blockers.join("; "))),
      ];
      for (const { state } of settled.filter((one) => one.state.status === "failed"))
        site.report.warn(`tenant ${state.tenantId} is left as it is: ${state.error}`);
      const isAlone = request.tenants.length === 1;
      const restoring = { run, request: wish, target, times, confirm, isAlone };
      settled.push(...(await restoreEach(site, restoring, plans, agreement)));
      return { restore: sumUp(settled), tenants: settled.map(({ state }) => state) };
    });
  });
}

/**
 * What a run before this one has done is not done again: its users may have gone on since. Null where it must be, because the
 * database does not know of it.
 */
async function doneBefore(
  site: Site,
  request: TenantRestoreRequest,
  origin: TenantOrigin,
  target: RestoreTarget,
  done: Restore,
): Promise<Settled | null> {
  const [tenantId = ""] = done.tenantIds;
  const { plans, blocked } = await planEach(site, request, [origin], target);
  const isStillThere =
    blocked.length === 0 &&
    plans.every(({ plan }) => plan.tables.every(({ inserted, updated }) => inserted + updated === 0));
  if (isStillThere) {
    site.report.info(`tenant ${tenantId} was restored already by the run before`);
    if (done.status !== "completed") await finishKilled(site, target, done);
    return { state: { tenantId, restoreId: done.id, status: "skipped", error: null }, restore: null };
  }
  // its end was not recorded, so nobody has been let in since: this is not the database that it was committed in
  if (done.status !== "completed") return null;
  return notRestored(
    tenantId,
    `restore ${done.id} brought it back, and its rows have changed since; alone, with --tenant ${tenantId}, it is brought back again`,
  );
}

const notRestored = (tenantId: string, error: string): Settled => ({
  state: { tenantId, restoreId: null, status: "failed", error },
  restore: null,
});

const unreadable = (tenantId: string, error: string, { name }: RestoreTarget): TenantRestorePlan => ({
  tenantId,
  planHash: "",
  tables: [],
  blockers: [error],
  warnings: [],
  backupId: "",
  label: "no backup",
  timeline: null,
  target: name,
  overwrites: null,
});

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
