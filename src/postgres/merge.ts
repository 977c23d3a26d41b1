import type { TableRestore } from "../domain/backup.js";
import type { Session } from "./connection.js";
import { foreignKeysOf } from "./mergeCatalog.js";
import { settleCollisions, settleTakeovers } from "./mergeCollisions.js";
import { type ConflictPolicy, compareTable, type Pending, type Sides } from "./mergeCompare.js";
import { extensionRows, lockTables, requireFullSight, staleViews } from "./mergeGuard.js";
import { addLargeObjects, pointsAtLargeObjects } from "./mergeLargeObjects.js";
import { orphansBefore, requireNoOrphans, settleOrphans } from "./mergeOrphans.js";
import { moveSequences } from "./mergeSequences.js";
import { conflict, verb } from "./mergeSql.js";
import { type MergeTable, pairTables } from "./mergeTables.js";
import { refuseRules, sideEffects, silenceTriggers, triggerWarnings, writtenSoFar } from "./mergeTriggers.js";
import { refusal, writePending } from "./mergeWrite.js";

export interface MergeRequest {
  /**
   * The backup, restored beside the live database on the same server: its rows, not necessarily its indexes and
   * constraints. After an error nothing but closing it is safe.
   */
  source: Session;
  target: Session;
  onConflict: ConflictPolicy;
  /** Only these; all when empty. */
  tables: string[];
  onProgress(done: number, total: number, table: string): void;
  signal: AbortSignal;
}

export interface MergeResult {
  tables: TableRestore[];
  rowsRestored: number;
  warnings: string[];
}

/** Rows of the backup into the live database, all of them in one transaction: any trouble leaves it as it was. */
export async function mergeDatabase(request: MergeRequest): Promise<MergeResult> {
  const { target, signal } = request;
  signal.throwIfAborted();
  await target.run(
    "begin isolation level read committed read write; set local lock_timeout = '30s'; set local row_security = off",
  );
  const cancelling = cancelOnAbort(request);
  try {
    const result = await mergeAll(request, cancelling);
    signal.throwIfAborted();
    await target.run("commit");
    return result;
  } catch (error) {
    // a lost connection has rolled back already, and its own error says more
    await target.run("rollback").catch(() => undefined);
    signal.throwIfAborted();
    throw error;
  } finally {
    cancelling.stop();
  }
}

async function mergeAll(request: MergeRequest, cancelling: Cancelling): Promise<MergeResult> {
  const { source, target, onConflict } = request;
  await source.run("set row_security = off");
  const tables = await pairTables(source, target, request.tables);
  const oids = tables.map(({ oid }) => oid);
  const keys = await foreignKeysOf(target, oids);
  await requireFullSight(target, tables, keys);
  const isSilent = await silenceTriggers(target);
  await lockTables(target, tables, keys, isSilent);

  const all = await compareAll({ ...request, ...cancelling }, tables);
  await decide(target, all, keys, onConflict, isSilent);

  const orphaned = await orphansBefore(target, all, keys);
  const before = await writtenSoFar(target);
  // with triggers on, PostgreSQL checks what it can at the end, when all rows are there
  if (!isSilent) await target.run("set constraints all deferred");
  const written = await writePending(target, all, keys, isSilent, ({ table }) =>
    request.onProgress(tables.length, tables.length, table.shown),
  );
  if (!isSilent) await checkDeferred(target);
  const old = isSilent ? await requireNoOrphans(target, keys, orphaned) : [];

  const changed = all.filter(({ inserts, updates }) => inserts + updates > 0).map(({ table }) => table.oid);
  const warnings = [
    ...all.flatMap(({ left }) => left.map(({ reason }) => reason)),
    ...old,
    ...(await triggerWarnings(target, all, isSilent)),
    ...(await sideEffects(target, before, written)),
    ...(request.tables.length === 0 ? await extensionRows(source) : []),
    ...(request.tables.length === 0 || (await pointsAtLargeObjects(target, oids))
      ? await addLargeObjects(source, target, onConflict, request.signal)
      : []),
    ...(await staleViews(target, changed)),
  ];
  await moveSequences(source, target, oids);
  return { ...resultOf(all), warnings };
}

async function compareAll(request: MergeRequest & Sides, tables: MergeTable[]): Promise<Pending[]> {
  const all: Pending[] = [];
  for (const table of tables) {
    request.signal.throwIfAborted();
    request.onProgress(all.length, tables.length, table.shown);
    all.push(await compareTable(request, table, all.length, request.onConflict));
  }
  return all;
}

/** Everything that can be refused or left out is, before the first row is written. */
async function decide(
  target: Session,
  all: Pending[],
  keys: Parameters<typeof settleOrphans>[2],
  policy: ConflictPolicy,
  isSilent: boolean,
): Promise<void> {
  const problems = all
    .filter(({ updates }) => policy === "fail" && updates > 0)
    .map(
      ({ table, updates }) =>
        `${table.shown} has ${updates} ${verb(updates, "row that differs", "rows that differ")} from the backup`,
    );
  for (const pending of all) problems.push(...(await settleCollisions(target, pending, policy)));
  if (problems.length > 0)
    throw conflict(
      problems,
      policy === "fail"
        ? "choose with --on-conflict skip or overwrite, or look at the rows in a copy with --into-db"
        : "change the rows that are in the way, or use --on-conflict skip",
    );
  await settleOrphans(target, all, keys, policy);
  await refuseRules(target, all, isSilent);
  for (const pending of all) await settleTakeovers(target, pending, isSilent);
}

async function checkDeferred(target: Session): Promise<void> {
  try {
    await target.run("set constraints all immediate");
  } catch (error) {
    throw refusal(error, "the live database");
  }
}

function resultOf(all: Pending[]): Omit<MergeResult, "warnings"> {
  const tables = all.map(({ table, total, inserts, updates, left }) => ({
    table: table.shown,
    inserted: inserts,
    updated: updates,
    deleted: 0,
    unchanged: total - inserts - updates - left.reduce((sum, { rows }) => sum + rows, 0),
  }));
  return {
    tables: tables.sort((a, b) => (a.table < b.table ? -1 : 1)),
    rowsRestored: tables.reduce((sum, { inserted, updated }) => sum + inserted + updated, 0),
  };
}

interface Cancelling {
  /** While rows are streaming, the streams end themselves and the backup's session is not free for another query. */
  duringCopy<Result>(run: () => Promise<Result>): Promise<Result>;
  stop(): void;
}

/** Ends the statement that the live database is at: it may run for many minutes. */
function cancelOnAbort({ source, target, signal }: MergeRequest): Cancelling {
  let isCopying = false;
  const pid = (target.client as unknown as { processID: number }).processID;
  const cancel = (): void => {
    if (!isCopying) source.rows("select pg_cancel_backend($1)::text as sent", [pid]).catch(() => undefined);
  };
  signal.addEventListener("abort", cancel);
  return {
    duringCopy: async (run) => {
      isCopying = true;
      try {
        return await run();
      } finally {
        isCopying = false;
      }
    },
    stop: () => signal.removeEventListener("abort", cancel),
  };
}
