import { availableParallelism } from "node:os";
import type { Backup, Run } from "../domain/backup.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import { folderOf, idProblem } from "../domain/reference.js";
import { subjectOf } from "../domain/runScope.js";
import type { TenantFacts } from "../domain/tenantBackup.js";
import type { Postgres, Session, TenantSnapshot } from "../postgres/postgres.js";
import { garbageCollector } from "../sys/garbage.js";
import { raiseAlert, resolveAlert, resolveAlertsOf } from "./alert.js";
import { healMissing } from "./heal.js";
import { withBackupRun } from "./hooks.js";
import { lockOnServer } from "./lock.js";
import type { RunContext } from "./run.js";
import type { Site } from "./site.js";
import { sealingKeys } from "./siteKeys.js";
import { chooseTenants, requireKnown, type Tenant } from "./tenants/choose.js";
import { earlierBackups } from "./tenants/earlier.js";
import { noteOfMissing, placeOf } from "./tenants/gone.js";
import { requireDecided, tenantGraph, tenantSettings } from "./tenants/graph.js";
import { openIsolationCheck } from "./tenants/isolation.js";
import { type Census, planBatches, readBatches, requireCounted, takeCensus } from "./tenants/readAll.js";
import { sha256Hex, type TenantFailure, TenantStore } from "./tenants/storeTenants.js";
import { tableFactsOf } from "./tenants/tenantFiles.js";
import { alertLostStorage, storagesForReading, storagesForWriting } from "./useStorages.js";

export const JOB = "backup-tenant";

export interface TenantsRequest {
  tenants: string[] | "all";
  note: string | null;
  /** Takes tenants that shrank to less than half since their last backup. */
  acceptShrunken: boolean;
  /** Others back up other tenants: that these are well says nothing of all. */
  isPart?: boolean;
}

/** Where the rows are read. */
export interface TenantOrigin {
  postgres: Postgres;
  source: TenantFacts["source"];
  /** The backup that these belong to, where they are made for a restore. */
  parentId: string | null;
}

export interface TenantsBackup {
  status: "completed" | "partial" | "failed";
  /** In the order of the tenants. Of many tenants they are read one after the other. */
  backups: Iterable<Backup> & { readonly length: number };
  failed: TenantFailure[];
}

/** Each tenant its own backup, all of them of one moment. */
export async function backupTenants(site: Site, request: TenantsRequest): Promise<TenantsBackup> {
  tenantSettings(site);
  const { tenants } = request;
  // before anything is begun: a mistyped id is no failed backup, and no hook halts an application for it
  if (tenants !== "all") await requireKnown(site, tenants);
  const work = async (run: RunContext): Promise<TenantsBackup> => {
    const postgres = await site.postgres();
    const admin = await postgres.admin();
    try {
      await lockOnServer(site, admin, JOB);
      await sweepKilled(site, await run.settleKilled(isNoOrder));
      return await exportTenants(site, run, request, {
        postgres,
        source: { kind: "live" },
        parentId: null,
      });
    } finally {
      await admin.close();
    }
  };
  return withBackupRun(site, JOB, "tenant", work, {
    judge: judgeTenants,
    ...(tenants === "all" ? {} : { scope: "part" as const, about: aboutTenants(tenants) }),
  });
}

/** Whoever ordered backups of the workers holds no lock, and waits for them. */
const isNoOrder = ({ metadata }: Run): boolean =>
  metadata.order === undefined || metadata.batch !== undefined;

export const judgeTenants = ({ status }: TenantsBackup): "succeeded" | "partial" | "failed" =>
  status === "completed" ? "succeeded" : status;

const LONGEST_NAMED = 80;

/** The same tenants are the same part of the job, in whatever order they were named. */
function aboutTenants(tenants: string[]): string {
  const ids = [...new Set(tenants)].sort();
  const named = ids.join(",");
  if (named.length <= LONGEST_NAMED) return named;
  return `${ids.length} tenants, ${sha256Hex(Buffer.from(JSON.stringify(ids))).slice(0, 16)}`;
}

/** What a killed run was writing just then. There are too many folders of tenants to look into all of them. */
export async function sweepKilled(site: Site, killed: Backup[]): Promise<void> {
  if (killed.length === 0) return;
  const { usable } = await storagesForReading(site, [], "any");
  for (const { id, createdAt, tenantId } of killed)
    for (const storage of usable)
      await storage.sweep(`${folderOf("tenant", id, new Date(createdAt), tenantId)}/`, 0);
}

/** The same from any server: the live one, or one that was brought up to stand at a moment of the past. */
export async function exportTenants(
  site: Site,
  run: RunContext,
  request: TenantsRequest,
  { postgres, source, parentId }: TenantOrigin,
): Promise<TenantsBackup> {
  // before anything of theirs is read, for what V8 has taken once it keeps
  const collectGarbage = request.tenants === "all" ? garbageCollector() : () => undefined;
  const keys = await sealingKeys(site);
  const storages = await storagesForWriting(site);
  const snapshot = await postgres.tenants.openSnapshot({
    connect: () => postgres.connect(),
    readGraph: (session) => tenantGraph(site, postgres, session),
    sessions: Math.max(2, Math.min(4, availableParallelism())),
  });
  try {
    requireDecided(snapshot.graph);
    site.step("tenants-snapshot");
    const first = snapshot.sessions[0] as Session;
    const tenants = await chooseTenants(site, first, snapshot.graph, request.tenants);
    const places = new Map(tenants.map(({ id }, place) => [id, place]));
    if (request.tenants === "all" && parentId === null) await noteGone(site, run, first, snapshot);
    const { version, versionNum, systemId } = snapshot.server;
    const store = new TenantStore(site, {
      run,
      note: request.note,
      keys,
      storages,
      earlier: earlierBackups(site),
      acceptShrunken: request.acceptShrunken,
      placeOf: (tenantId) => places.get(tenantId) ?? tenants.length,
      parentId,
      server: { version, versionNum, systemId },
      timeline: snapshot.timeline,
    });
    await readAndStore({ site, postgres, snapshot, tenants, store, source, request, collectGarbage });
    if (source.kind === "live" && !(await snapshot.isSchemaSame()))
      site.report.warn(
        "the schema was changed while tenants were read; the backups are of the schema before",
      );
    return await settle(site, store, tenants, parentId === null ? request : null);
  } finally {
    await snapshot.close();
    site.report.progressEnd();
  }
}

/** Who has backups and is no tenant any more: what is left of them may follow the policy to its end. */
async function noteGone(
  site: Site,
  run: RunContext,
  session: Session,
  { graph, server, database }: TenantSnapshot,
): Promise<void> {
  const of = placeOf(server.systemId, database);
  const note = await noteOfMissing(site, { session, graph, of, at: run.startedAt });
  if (note !== null) run.note({ ...note });
}

interface Reading {
  site: Site;
  postgres: Postgres;
  snapshot: TenantSnapshot;
  tenants: Tenant[];
  store: TenantStore;
  source: TenantFacts["source"];
  request: TenantsRequest;
  collectGarbage(): void;
}

/** As many tenants as leave some megabytes of garbage: so the memory of a run does not depend on how many there are. */
const COLLECTED_EVERY = 200;

async function readAndStore(reading: Reading): Promise<void> {
  const { site, postgres, snapshot, tenants, store, request } = reading;
  const wanted = request.tenants === "all" ? "all" : tenants.map(({ id }) => id);
  const census = await takeCensus(postgres, snapshot, tenants, wanted);
  for (const { table, rows } of census.nobodys)
    site.report.warn(`${rows} rows of ${table} belong to no tenant`);
  const refused = tenants.flatMap(({ id }) => {
    const why = idProblem(id) ?? census.disputed.get(id);
    return why === undefined ? [] : [{ id, why }];
  });
  await store.begin(refused.map(({ id }) => id));
  // rows that two tenants could claim, or an id that names no folder: nothing is stored under a doubtful name
  for (const { id, why } of refused) store.fail(id, new JBackupError("verification_failed", why));
  const refusedIds = new Set(refused.map(({ id }) => id));
  const readable = tenants.filter(({ id }) => !refusedIds.has(id));
  const checkIsolation = await openIsolationCheck(site, postgres, snapshot);
  let done = 0;
  let collectedAt = 0;
  let bytes = 0;
  const report = (): void =>
    site.report.progress({
      task: "backing up tenants",
      done,
      total: tenants.length,
      unit: "tenants",
      extra: `${(bytes / 1e6).toFixed(1)} MB`,
    });
  try {
    const { small, large } = planBatches(readable, census);
    for await (const batch of readBatches(postgres, snapshot, census, small)) {
      await store.begin(batch.map(({ tenant }) => tenant.id));
      for (const { tenant, rows } of batch) {
        site.signal.throwIfAborted();
        await perTenant(store, tenant, async () => {
          await checkIsolation(tenant.id, census);
          await store.add({ facts: factsOf(reading, tenant, census, rows), rows });
        });
        bytes += rows.reduce((sum, one) => sum + one.length, 0);
        done++;
      }
      report();
      if (done - collectedAt < COLLECTED_EVERY) continue;
      reading.collectGarbage();
      collectedAt = done;
    }
    for (const tenant of large) {
      await store.begin([tenant.id]);
      await perTenant(store, tenant, async () => {
        await checkIsolation(tenant.id, census);
        await storeLarge(reading, tenant, census);
      });
      bytes += census.bytesOf(tenant.id);
      done++;
      report();
    }
  } finally {
    await checkIsolation.close();
    await store.finish();
  }
}

/** One tenant's trouble is its own. */
async function perTenant(store: TenantStore, { id }: Tenant, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isJBackupError(error, "verification_failed")) throw error;
    store.fail(id, error);
  }
}

function factsOf(reading: Reading, tenant: Tenant, census: Census, rows: Buffer[]): TenantFacts {
  const { postgres } = reading;
  const tables = census.tables.map((table, nth) => {
    const content = rows[nth] ?? Buffer.alloc(0);
    const many = postgres.tenants.countLines(content);
    requireCounted(tenant, table, many, census);
    return tableFactsOf(table, nth, { rows: many, bytes: content.length, sha256: sha256Hex(content) });
  });
  return { ...headOf(reading, tenant), tables };
}

function headOf({ snapshot, source, site }: Reading, { id, name }: Tenant): Omit<TenantFacts, "tables"> {
  return {
    id,
    name,
    source,
    snapshotAt: snapshot.takenAt,
    lsn: snapshot.lsn,
    database: snapshot.database,
    schemaFingerprint: snapshot.schemaFingerprint,
    role: snapshot.role,
    isolation: tenantSettings(site).isolation,
  };
}

async function storeLarge(reading: Reading, tenant: Tenant, census: Census): Promise<void> {
  const { site, postgres, snapshot, store } = reading;
  const session = snapshot.sessions[0] as Session;
  await store.addLarge(tenant.id, census.bytesOf(tenant.id), async (addEntry) => {
    const tables = [];
    for (const [nth, table] of census.tables.entries()) {
      let rows = 0;
      async function* counted(): AsyncGenerator<Buffer> {
        for await (const chunk of postgres.tenants.readOne(session, table, tenant.id, site.signal)) {
          rows += postgres.tenants.countLines(chunk);
          yield chunk;
        }
      }
      const { entry } = tableFactsOf(table, nth, { rows: 0, bytes: 0, sha256: "" });
      const { bytes, sha256 } = await addEntry(entry, counted());
      requireCounted(tenant, table, rows, census);
      tables.push(tableFactsOf(table, nth, { rows, bytes, sha256 }));
    }
    return { ...headOf(reading, tenant), tables };
  });
}

/** What it came to, for people, for alerts, and for the next run. One made for a restore is that one's to tell about. */
async function settle(
  site: Site,
  store: TenantStore,
  tenants: Tenant[],
  request: TenantsRequest | null,
): Promise<TenantsBackup> {
  const { backups, failed } = store;
  for (const [name, error] of store.lost()) await alertLostStorage(site, name, error, null);
  if (request !== null) await tellTenants(site, store, tenants.length, request);
  await healMissing(site, [...store.lost().keys()], "tenant");
  const status = failed.length === 0 ? "completed" : backups.length === 0 ? "failed" : "partial";
  return { status, backups, failed };
}

async function tellTenants(
  site: Site,
  { failed }: TenantStore,
  count: number,
  { tenants, isPart = false }: TenantsRequest,
): Promise<void> {
  // a batch is a worker's part of all tenants
  const subject = subjectOf(JOB, tenants === "all" || isPart ? null : aboutTenants(tenants));
  if (failed.length > 0) {
    await raiseAlert(site, {
      type: "BACKUP_FAILURE",
      severity: "critical",
      fingerprint: `failed:${subject}`,
      message: `${failed.length} of ${count} tenants were not backed up: ${failed
        .slice(0, 5)
        .map(({ tenantId, error }) => `${tenantId} (${error})`)
        .join("; ")}`,
      hint: "jbackup list --kind tenant --status failed shows all of them",
    });
    return;
  }
  if (tenants === "all") return resolveAlertsOf(site, JOB, "all tenants were backed up");
  if (isPart) return;
  for (const what of ["failed", "interrupted"])
    await resolveAlert(site, `${what}:${subject}`, "these tenants were backed up");
}
