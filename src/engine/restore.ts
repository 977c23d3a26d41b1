import type { Restore, TableRestore } from "../domain/backup.js";
import { JBackupError, reasonOf } from "../domain/errors.js";
import { planRestore as plan, type RestorePlan, type RestoreRequest } from "../domain/restorePlan.js";
import type { DumpFacts, Postgres, Session, TableRows } from "../postgres/postgres.js";
import { openHiddenFile } from "../sys/hiddenFile.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { findBackup } from "./findBackup.js";
import { lockOnServer } from "./lock.js";
import { type OpenedBackup, openBackup } from "./openBackup.js";
import { requireSpace, temporaryDirectory } from "./restoreSpace.js";
import { type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";

export type { RestorePlan, RestoreRequest } from "../domain/restorePlan.js";

const JOB = "restore";

/** Everything that is known before anything is touched. */
interface Prepared {
  plan: RestorePlan;
  request: RestoreRequest;
  backup: OpenedBackup;
  facts: DumpFacts;
  recordedRows: TableRows[];
  spacesMissing: boolean;
}

/** What a restore would do, checked as far as it can be without changing anything. */
export async function planRestore(site: Site, request: RestoreRequest): Promise<RestorePlan> {
  const postgres = await site.postgres();
  const admin = await postgres.admin();
  try {
    return (await prepare(site, request, postgres, admin)).plan;
  } finally {
    await admin.close();
  }
}

/** Brings a logical backup back. Until the last step the target is as it was; after it, all of it is there. */
export async function restore(
  site: Site,
  request: RestoreRequest,
  confirm: (plan: RestorePlan) => Promise<void>,
): Promise<Restore> {
  const postgres = await site.postgres();
  const admin = await postgres.admin();
  try {
    const prepared = await prepare(site, request, postgres, admin);
    await confirm(prepared.plan);
    return await withRun(site, JOB, async (run) => {
      await lockOnServer(site, admin, JOB);
      await sweepBefore(site, postgres, admin, prepared.plan.target);
      return recorded(site, run, prepared, () => carryOut(site, prepared, postgres, admin));
    });
  } finally {
    await admin.close();
  }
}

async function prepare(
  site: Site,
  request: RestoreRequest,
  postgres: Postgres,
  admin: Session,
): Promise<Prepared> {
  const found = await findBackup(site, request.reference);
  const { body } = found.manifest;
  if (body.kind !== "full" || body.method !== "logical") {
    throw new JBackupError("usage", `${body.label} is no logical full backup`, {
      hint: "choose one with jbackup list --kind full",
    });
  }
  const backup = await openBackup(site, found);
  const facts = backup.contents.detail.logical as DumpFacts;
  const recordedRows = backup.contents.detail.tables as TableRows[];
  const target = request.intoDatabase ?? postgres.database;
  const targetExists = await postgres.restoring.exists(admin, target);
  refuseTarget(request, target, targetExists, postgres.database);
  const warnings = await postgres.restoring.checkTarget(admin, facts);
  await requireSpace(site, admin, backup.entry("database.pgdump").bytes, facts.database.bytes);
  return {
    request,
    backup,
    facts,
    recordedRows,
    spacesMissing: warnings.length > 0,
    plan: plan(request, {
      backup: {
        id: body.backupId,
        label: body.label,
        createdAt: body.createdAt,
        database: facts.database.name,
        tables: recordedRows.length,
        rows: recordedRows.reduce((sum, { rows }) => sum + rows, 0),
        rawBytes: body.rawBytes,
      },
      target,
      targetExists,
      storages: found.storages.map(({ name }) => name),
      warnings: [...body.warnings, ...warnings],
    }),
  };
}

function refuseTarget(request: RestoreRequest, target: string, exists: boolean, live: string): void {
  if (["postgres", "template0", "template1"].includes(target))
    throw new JBackupError("target_refused", `${target} is a maintenance database`, {
      hint: "name another database with --into-db",
    });
  if ((request.mode === "merge" || request.inPlace) && !exists)
    throw new JBackupError("database_missing", `there is no database "${target}" to restore into`, {
      hint: "leave out --mode merge and --in-place: a full restore makes the database",
    });
  if (
    request.mode === "full" &&
    !request.inPlace &&
    request.intoDatabase !== null &&
    exists &&
    target !== live
  )
    throw new JBackupError("target_refused", `the database "${target}" exists already`, {
      hint: "name a new database with --into-db, or drop that one first",
    });
  if (request.tables.length > 0 && request.mode !== "merge")
    throw new JBackupError("usage", "--tables works with --mode merge only", {
      hint: "restore everything with --into-db NAME, or merge some tables with --mode merge --tables ...",
    });
}

/** What a killed restore left behind goes first. */
async function sweepBefore(site: Site, postgres: Postgres, admin: Session, target: string): Promise<void> {
  for (const name of await postgres.restoring.sweep(admin))
    site.report.info(`dropped ${name}, left half-restored by a run that was killed`);
  if (await postgres.restoring.reopen(admin, target))
    site.report.info(`opened ${target} to connections again: a killed run had closed it`);
}

async function recorded(
  site: Site,
  run: RunContext,
  { plan: planned, request }: Prepared,
  work: () => Promise<Outcome>,
): Promise<Restore> {
  const started: Restore = {
    id: site.newId(),
    backupId: planned.backupId,
    mode: request.mode,
    status: "in_progress",
    target: planned.target,
    targetTime: null,
    tenantIds: [],
    rowsRestored: 0,
    startedAt: run.startedAt.toISOString(),
    finishedAt: null,
    durationMs: null,
    tables: [],
    warnings: planned.warnings,
    error: null,
    reason: request.reason,
    initiatedBy: run.by,
    jobId: run.id,
    metadata: { way: planned.way },
  };
  await site.catalog.saveRestore(started);
  await audit(site, run, "restore.start", started);
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
    const outcome = await work();
    const done = end({
      status: "completed",
      tables: outcome.tables,
      rowsRestored: outcome.rowsRestored,
      warnings: [...started.warnings, ...outcome.warnings],
      metadata: { ...started.metadata, ...outcome.metadata },
    });
    await site.catalog.saveRestore(done);
    await audit(site, run, "restore.done", done);
    await resolveAlert(site, `failed:${JOB}`, `a restore into ${planned.target} succeeded`);
    await resolveAlert(site, `interrupted:${JOB}`, `a restore into ${planned.target} succeeded`);
    return done;
  } catch (error) {
    const failed = end({ status: site.signal.aborted ? "cancelled" : "failed", error: reasonOf(error) });
    await site.catalog.saveRestore(failed);
    await audit(site, run, "restore.failed", failed);
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

const audit = (site: Site, run: RunContext, action: string, restored: Restore): Promise<void> =>
  site.catalog.appendAudit({
    id: site.newId(),
    at: site.clock.now().toISOString(),
    actor: run.by,
    action,
    subject: restored.target,
    detail: {
      restoreId: restored.id,
      backupId: restored.backupId,
      reason: restored.reason,
      error: restored.error,
    },
  });

interface Outcome {
  tables: TableRestore[];
  rowsRestored: number;
  warnings: string[];
  metadata: Record<string, unknown>;
}

async function carryOut(
  site: Site,
  prepared: Prepared,
  postgres: Postgres,
  admin: Session,
): Promise<Outcome> {
  const { plan: planned, facts, backup } = prepared;
  const created = await postgres.restoring.createMissingRoles(admin, facts.roles, await globalsOf(backup));
  if (created.length > 0) site.report.info(`created the missing roles ${created.join(", ")}`);
  const archive = await openHiddenFile(temporaryDirectory(site));
  try {
    await archive.write(fetched(site, prepared));
    site.report.progressEnd();
    site.step("fetched");
    const outcome =
      planned.way === "in-place"
        ? await restoreInPlace(site, prepared, postgres, archive.path)
        : await restoreBeside(site, prepared, postgres, admin, archive.path);
    if (created.length > 0) outcome.warnings.push(`created the missing roles ${created.join(", ")}`);
    return outcome;
  } finally {
    await archive.close();
  }
}

async function globalsOf(backup: OpenedBackup): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of backup.read(backup.entry("globals.sql"))) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

async function* fetched(site: Site, { backup, plan: planned }: Prepared): AsyncGenerator<Buffer> {
  const entry = backup.entry("database.pgdump");
  let done = 0;
  for await (const chunk of backup.read(entry)) {
    site.signal.throwIfAborted();
    done += chunk.length;
    site.report.progress({ task: `fetching ${planned.label}`, done, total: entry.bytes, unit: "bytes" });
    yield chunk;
  }
}

async function restoreInPlace(
  site: Site,
  prepared: Prepared,
  postgres: Postgres,
  file: string,
): Promise<Outcome> {
  const { plan: planned, facts, request } = prepared;
  await postgres.restoring.load(
    { file, database: planned.target, jobs: request.jobs, how: "in-place" },
    facts,
    prepared.spacesMissing,
  );
  site.step("loaded");
  const counted = await postgres.restoring.count(planned.target);
  const differing = differences(prepared.recordedRows, counted, "superset");
  return {
    ...restoredRows(
      counted.filter(({ table }) => prepared.recordedRows.some((recorded) => recorded.table === table)),
    ),
    warnings: differing.map((difference) => `after the restore ${difference}`),
    metadata: {},
  };
}

/** Into a database of its own first; only a complete and checked one gets the target's name, or is merged from. */
async function restoreBeside(
  site: Site,
  prepared: Prepared,
  postgres: Postgres,
  admin: Session,
  file: string,
): Promise<Outcome> {
  const { plan: planned, facts, request } = prepared;
  const steps = postgres.restoring;
  const side = sideName(planned.target, site.newId());
  const isMerge = planned.way === "merge";
  await steps.createSide(admin, side, facts.database);
  site.step("side-created");
  try {
    const stopWatching = watchLoading(site, admin, side, facts.database.bytes);
    try {
      await steps.load(
        { file, database: side, jobs: request.jobs, how: isMerge ? "rows-only" : "beside" },
        facts,
        prepared.spacesMissing,
      );
    } finally {
      await stopWatching();
    }
    site.step("loaded");
    const counted = await steps.count(side);
    requireEqual(prepared.recordedRows, counted, planned.label);
    site.step("checked");
    if (isMerge) return await mergeFrom(site, prepared, postgres, side);

    await steps.analyze(side);
    await steps.dress(admin, side, facts.database);
    site.step("dressed");
    const keptAs = await steps.swapIn(
      admin,
      side,
      planned.target,
      keptName(site, planned.target),
      facts.database.comment,
    );
    site.step("swapped");
    const kept =
      keptAs === null
        ? []
        : [`the database that was there is kept as ${keptAs}; drop it when it is no longer needed`];
    return { ...restoredRows(counted), warnings: kept, metadata: keptAs === null ? {} : { keptAs } };
  } finally {
    // gone already when it was swapped in: then this finds nothing
    await steps.drop(admin, side);
  }
}

async function mergeFrom(site: Site, prepared: Prepared, postgres: Postgres, side: string): Promise<Outcome> {
  const { request, plan: planned } = prepared;
  const source = await postgres.connect(side);
  const target = await postgres.connect(planned.target);
  try {
    const merged = await postgres.restoring.merge({
      source,
      target,
      onConflict: request.onConflict,
      tables: request.tables,
      signal: site.signal,
      onProgress: (done, total, table) =>
        site.report.progress({ task: `merging ${table}`, done, total, unit: "tables" }),
    });
    site.step("merged");
    return { ...merged, metadata: {} };
  } finally {
    await Promise.all([source.close(), target.close()]);
  }
}

/** pg_restore says nothing while it works; the database's size does. */
function watchLoading(site: Site, admin: Session, side: string, expectedBytes: number): () => Promise<void> {
  let asked: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    asked = asked
      .then(() => admin.rows<{ bytes: string }>("select pg_database_size($1)::text as bytes", [side]))
      .then(([row]) => {
        const done = Number(row?.bytes ?? 0);
        site.report.progress({
          task: "restoring tables and indexes",
          done,
          total: Math.max(expectedBytes, done),
          unit: "bytes",
        });
      })
      .catch(() => clearInterval(timer)); // only a display: the restore itself reports what is wrong
  }, 1_000);
  return async () => {
    clearInterval(timer);
    await asked;
    site.report.progressEnd();
  };
}

const shortened = (name: string): string => name.slice(0, 40);

const sideName = (target: string, id: string): string => `${shortened(target)}_jbackup_${id.slice(-8)}`;

const keptName = (site: Site, target: string): string =>
  `${shortened(target)}_before_${site.clock.now().toISOString().slice(0, 19).replace(/[-:]/g, "").replace("T", "_")}`;

const restoredRows = (counted: TableRows[]): { tables: TableRestore[]; rowsRestored: number } => ({
  tables: counted.map(({ table, rows }) => ({ table, inserted: rows, updated: 0, deleted: 0, unchanged: 0 })),
  rowsRestored: counted.reduce((sum, { rows }) => sum + rows, 0),
});

function differences(expected: TableRows[], counted: TableRows[], how: "equal" | "superset"): string[] {
  const rows = new Map(counted.map((entry) => [entry.table, entry.rows]));
  const found = expected
    .filter((entry) => rows.get(entry.table) !== entry.rows)
    .map(
      (entry) => `${entry.table} has ${rows.get(entry.table) ?? "no"} rows where ${entry.rows} were recorded`,
    );
  const known = new Set(expected.map(({ table }) => table));
  const extra = how === "superset" ? [] : counted.filter(({ table }) => !known.has(table));
  return [...found, ...extra.map(({ table }) => `${table} was not in the backup`)];
}

function requireEqual(expected: TableRows[], counted: TableRows[], label: string): void {
  const differing = differences(expected, counted, "equal");
  if (differing.length === 0) return;
  throw new JBackupError(
    "verification_failed",
    `what was restored from ${label} is not what was backed up: ${differing.slice(0, 5).join("; ")}`,
    {
      hint: "the target was not touched; try another backup from jbackup list",
      details: { differences: differing },
    },
  );
}
