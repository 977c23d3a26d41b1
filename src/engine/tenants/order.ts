import type { FoundWork, JobQueue } from "../../catalog/catalogs.js";
import type { Backup, Run } from "../../domain/backup.js";
import { isAlive, markOf } from "../../sys/processes.js";
import { raiseAlert, resolveAlertsOf } from "../alert.js";
import { JOB, judgeTenants, type TenantsBackup } from "../backupTenants.js";
import { onThisHost, type RunContext, withRun } from "../run.js";
import { rest } from "../schedule/rest.js";
import { requireQueue } from "../schedule/shared.js";
import { openTenantLine, TENANTS } from "../schedule/worker.js";
import type { Site } from "../site.js";
import { chooseTenants } from "./choose.js";
import { noteOfMissing, placeOf } from "./gone.js";
import { tenantSettings, withTenantGraph } from "./graph.js";
import type { TenantFailure } from "./storeTenants.js";

export interface TenantsOrder {
  note: string | null;
  acceptShrunken: boolean;
  /** Tenants a batch. */
  size: number;
}

export interface OrderedBackup extends TenantsBackup {
  order: string;
  tenants: number;
  batches: number;
}

const LOOK_EVERY_MS = 1_000;
/** By then a worker should have taken something. */
const PATIENCE_MS = 20_000;

/** Lets workers back up every active tenant, and waits until they have. */
export async function orderTenants(site: Site, wish: TenantsOrder): Promise<OrderedBackup> {
  tenantSettings(site);
  const queue = await requireQueue(site, "--queue");
  await openTenantLine(queue);
  const order = site.newId();
  // the batches are parts; this is the run of the whole
  return withRun(
    site,
    JOB,
    async (run) => {
      await run.settleKilled(isDeadOrder(site));
      return carryOut(site, run, queue, order, wish);
    },
    { lock: `${JOB}.${order}`, judge: judgeTenants, metadata: { order } },
  );
}

/** Nobody holds a lock while workers work: of this host's orders those are over whose process is. */
const isDeadOrder =
  (site: Site) =>
  (run: Run): boolean =>
    run.metadata.order !== undefined &&
    run.metadata.batch === undefined &&
    onThisHost(site)(run) &&
    !isAlive({ ...markOf(run.pid), startTicks: null });

async function carryOut(
  site: Site,
  run: RunContext,
  queue: JobQueue,
  order: string,
  wish: TenantsOrder,
): Promise<OrderedBackup> {
  const tenants = await activeTenants(site, run);
  const orderedAt = site.clock.now().toISOString();
  const batches = Array.from({ length: Math.ceil(tenants.length / wish.size) }, (_, nth) => ({
    id: site.newId(),
    data: {
      order,
      orderedAt,
      tenants: tenants.slice(nth * wish.size, (nth + 1) * wish.size),
      note: wish.note,
      acceptShrunken: wish.acceptShrunken,
    },
  }));
  await queue.offer(TENANTS, batches);
  site.report.info(`${tenants.length} tenants are in the queue, in ${batches.length} batches`);
  const found = await untilDone(site, queue, order, tenants.length);
  const result = await resultOf(site, found, orderedAt);
  await tell(site, result, tenants.length);
  return { ...result, order, tenants: tenants.length, batches: batches.length };
}

async function activeTenants(site: Site, run: RunContext): Promise<string[]> {
  return withTenantGraph(site, async ({ postgres, session, graph }) => {
    const active = (await chooseTenants(site, session, graph, "all")).map(({ id }) => id);
    const { systemId } = await postgres.tenants.server(session);
    const of = placeOf(systemId, postgres.database);
    const note = await noteOfMissing(site, { session, graph, of, at: run.startedAt });
    if (note !== null) run.note({ ...note });
    return active;
  });
}

async function untilDone(site: Site, queue: JobQueue, order: string, total: number): Promise<FoundWork[]> {
  const startedMs = site.clock.monotonicMs();
  let isWarned = false;
  for (;;) {
    const found = await queue.find(TENANTS, { order });
    if (site.signal.aborted) await takeBack(site, queue, found);
    const open = found.filter(({ status }) => status === "waiting" || status === "active");
    site.report.progress({
      task: "tenants by workers",
      done: found.filter((one) => !open.includes(one)).reduce((sum, one) => sum + tenantsOf(one).length, 0),
      total,
      unit: "tenants",
    });
    if (open.length === 0) return found;
    const isUntouched = found.every(({ status }) => status === "waiting");
    if (isUntouched && !isWarned && site.clock.monotonicMs() - startedMs > PATIENCE_MS) {
      isWarned = true;
      site.report.warn("no worker has taken anything yet: jbackup schedule run --worker starts one");
    }
    await rest(site.signal, LOOK_EVERY_MS);
  }
}

/** What a worker is at is not taken away from it. */
async function takeBack(site: Site, queue: JobQueue, found: FoundWork[]): Promise<never> {
  const waiting = found.filter(({ status }) => status === "waiting").map(({ id }) => id);
  if (waiting.length > 0) await queue.withdraw(TENANTS, waiting);
  throw site.signal.reason;
}

const tenantsOf = ({ data }: FoundWork): string[] => (Array.isArray(data.tenants) ? data.tenants : []);

async function resultOf(site: Site, found: FoundWork[], since: string): Promise<TenantsBackup> {
  const ids = new Set<string>();
  const failed: TenantFailure[] = [];
  for (const work of found) {
    const { backups, failed: some, error } = work.output as Record<string, unknown>;
    for (const id of Array.isArray(backups) ? backups : []) ids.add(String(id));
    failed.push(...(Array.isArray(some) ? (some as TenantFailure[]) : []));
    if (work.status !== "done")
      for (const tenantId of tenantsOf(work))
        failed.push({ tenantId, error: typeof error === "string" ? error : `its batch was ${work.status}` });
  }
  const made: Backup[] = await site.catalog.backups({ kind: "tenant", since });
  const backups = made.filter(({ id }) => ids.has(id));
  const status = failed.length === 0 ? "completed" : backups.length === 0 ? "failed" : "partial";
  return { status, backups, failed };
}

async function tell(site: Site, { failed }: TenantsBackup, total: number): Promise<void> {
  if (failed.length === 0) {
    await resolveAlertsOf(site, JOB, "all tenants were backed up");
    return;
  }
  await raiseAlert(site, {
    type: "BACKUP_FAILURE",
    severity: "critical",
    fingerprint: `failed:${JOB}`,
    message: `${failed.length} of ${total} tenants were not backed up by the workers`,
    hint: "jbackup list --kind tenant --status failed shows them; run jbackup backup tenant --all --queue again",
  });
}
