import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { TenantPlan, TenantRestored } from "../../postgres/postgres.js";
import type { TenantRestorePlan, TenantRestoreRequest } from "../restoreTenant.js";
import type { Site } from "../site.js";
import type { RestoreTarget } from "./care.js";
import { tenantSettings } from "./graph.js";
import type { TenantOrigin } from "./origins.js";

/** A tenant that can be restored, and what that would do. */
export interface Planned {
  origin: TenantOrigin;
  plan: TenantRestorePlan;
}

export interface PlannedEach {
  plans: Planned[];
  blocked: TenantRestorePlan[];
}

export const targetIdOf = ({ asTenant }: TenantRestoreRequest, { facts }: TenantOrigin): string =>
  asTenant ?? facts.id;

/** Among several tenants trouble with one is that one's: it is told, and the others are planned. */
export async function planEach(
  site: Site,
  request: TenantRestoreRequest,
  origins: TenantOrigin[],
  target: RestoreTarget,
): Promise<PlannedEach> {
  const planned: PlannedEach = { plans: [], blocked: [] };
  for (const [nth, origin] of origins.entries()) {
    if (origins.length > 1)
      site.report.progress({
        task: "comparing tenants",
        done: nth,
        total: origins.length,
        unit: "tenants",
      });
    const plan = await planOrBlock(site, request, origin, target, request.tenants.length > 1);
    if (plan.blockers.length > 0) planned.blocked.push(plan);
    else planned.plans.push({ origin, plan });
  }
  site.report.progressEnd();
  return planned;
}

async function planOrBlock(
  site: Site,
  request: TenantRestoreRequest,
  origin: TenantOrigin,
  target: RestoreTarget,
  isOneOfMany: boolean,
): Promise<TenantRestorePlan> {
  try {
    return await planOne(site, request, origin, target);
  } catch (error) {
    site.signal.throwIfAborted();
    if (!isOneOfMany || !(error instanceof JBackupError) || !isOfOneTenant(error)) throw error;
    const blocked = { tenantId: targetIdOf(request, origin), planHash: "", tables: [], warnings: [] };
    const plan = { ...blocked, blockers: [reasonOf(error)] };
    return { ...plan, ...placeOf(request, origin, target, plan) };
  }
}

/** Rows and values are one tenant's; a wrong flag or a lost connection is everybody's. */
const isOfOneTenant = ({ exitCode, code }: JBackupError): boolean =>
  exitCode === 4 || code === "target_refused" || code === "conflict" || code === "object_missing";

export async function planOne(
  site: Site,
  request: TenantRestoreRequest,
  origin: TenantOrigin,
  target: RestoreTarget,
): Promise<TenantRestorePlan> {
  const { proof: _, ...plan } = await runRestore(site, request, origin, target, {
    isDryRun: true,
    holdsTo: null,
    mayOverwrite: true,
    onProved: async () => undefined,
  });
  const warnings = [...origin.warnings, ...plan.warnings];
  return { ...plan, warnings, ...placeOf(request, origin, target, plan) };
}

function placeOf(
  request: TenantRestoreRequest,
  origin: TenantOrigin,
  target: RestoreTarget,
  plan: TenantPlan,
): Pick<TenantRestorePlan, "backupId" | "label" | "timeline" | "target" | "overwrites"> {
  const { backupId, label } = origin.found.manifest.body;
  const changes = plan.tables.some(({ updated, deleted }) => updated + deleted > 0);
  return {
    backupId,
    label,
    timeline: origin.timeline,
    target: target.name,
    overwrites: changes ? targetIdOf(request, origin) : null,
  };
}

/** Nothing to do for anybody: then it is refused as a whole. */
export function requireOneUnblocked(plans: Planned[], blocked: TenantPlan[]): void {
  if (plans.length === 0) requireUnblocked(blocked);
}

export function requireUnblocked(plans: TenantPlan[]): void {
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

export interface HowToRun {
  isDryRun: boolean;
  /** The hash of the only plan that may be carried out; null: whatever it is by then. */
  holdsTo: string | null;
  mayOverwrite: boolean;
  /** Told before the commit. */
  onProved(restored: TenantRestored): Promise<void>;
}

/** The dry run and the real one are the same, up to the first write. */
export function runRestore(
  site: Site,
  request: TenantRestoreRequest,
  { opened, facts }: TenantOrigin,
  { postgres, session, graph }: RestoreTarget,
  { isDryRun, holdsTo, mayOverwrite, onProved }: HowToRun,
): Promise<TenantRestored> {
  const { erasures } = tenantSettings(site);
  const { createMissing, updateExisting, deleteNew } = request;
  return postgres.tenants.restore({
    session,
    observe: () => postgres.connect(session.address.database),
    graph,
    facts,
    read: (entry) => opened.read(opened.entry(entry)),
    changes:
      request.mode === "full"
        ? { createMissing: true, updateExisting: true, deleteNew: true }
        : { createMissing, updateExisting, deleteNew },
    tables: request.tables,
    withShared: request.withShared,
    triggers: request.triggers,
    cloning: request.asTenant === null ? null : { oldId: facts.id, newId: request.asTenant },
    erasures: erasures ?? null,
    expectPlan: holdsTo,
    mayOverwrite,
    provesOthers: request.prove === "full",
    isDryRun,
    signal: site.signal,
    cancel: async (pid) => {
      const other = await postgres.connect();
      await other.rows("select pg_cancel_backend($1)::text as sent", [pid]);
      await other.close();
    },
    onWaiting: (text) => site.report.warn(text),
    onStaged: () => site.step("tenant-staged"),
    onWritten: () => site.step("tenant-written"),
    onProved: async (restored) => {
      await onProved(restored);
      site.step("tenant-proved");
    },
    onCommitted: () => site.step("tenant-committed"),
  });
}
