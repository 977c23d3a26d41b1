import { JBackupError } from "../../domain/errors.js";
import type { TenantFacts } from "../../domain/tenantBackup.js";
import { quoteName, quoteText, type Session } from "../connection.js";
import type { ForeignKey } from "../mergeCatalog.js";
import { foreignKeysOf } from "../mergeCatalog.js";
import { settleTakeovers } from "../mergeCollisions.js";
import { orphansBefore, requireNoOrphans } from "../mergeOrphans.js";
import { moveSequences } from "../mergeSequences.js";
import { refuseRules, silenceTriggers, triggerWarnings, writtenSoFar } from "../mergeTriggers.js";
import { refusal, type Written, writePending } from "../mergeWrite.js";
import { watchWaits } from "../waiting.js";
import { type Cloning, cloneStaged } from "./clone.js";
import {
  type Changes,
  compareTenant,
  type Difference,
  deleteGone,
  missingShared,
  type PlannedTable,
  parentsFirst,
  readLive,
} from "./difference.js";
import { applyErasures, type Erasures } from "./erasures.js";
import type { Graph } from "./ownership.js";
import { pairTables } from "./pair.js";
import {
  checkedKeys,
  type Digest,
  digestsOf,
  proofFailed,
  requireCounting,
  requireOnlyOurs,
  requireOwn,
  requireOwnReferences,
  requireSameDigests,
} from "./prove.js";
import { type OthersProof, proveOthers } from "./proveOthers.js";
import { lostValues, requireOwnRows, stageRows } from "./stage.js";

export interface TenantRestoring {
  session: Session;
  /** Another session of the same database, which sees it as everybody else does. */
  observe(): Promise<Session>;
  /** Of the live database, as the session sees it. */
  graph: Graph;
  facts: TenantFacts;
  /** The COPY text of one table. May be asked for again, when the transaction has to begin anew. */
  read(entry: string): AsyncIterable<Buffer>;
  changes: Changes;
  /** Only these; all when empty. */
  tables: string[];
  withShared: boolean;
  triggers: "off" | "fire";
  /** Into another tenant; null: into its own place. */
  cloning: Cloning | null;
  erasures: Erasures | null;
  expectPlan: string | null;
  /** Otherwise it may add rows only: nobody agreed to more. */
  mayOverwrite: boolean;
  provesOthers: boolean;
  isDryRun: boolean;
  signal: AbortSignal;
  /** Ends the statement that a server process is at, from another session. */
  cancel(pid: number): Promise<void>;
  /** For whom it waits, when that lasts. */
  onWaiting(text: string): void;
  onStaged(): void;
  onWritten(): void;
  /** Before the commit, with all that there will be to tell. */
  onProved(restored: TenantRestored): Promise<void>;
  onCommitted(): void;
}

export interface TenantPlan {
  tenantId: string;
  planHash: string;
  tables: PlannedTable[];
  blockers: string[];
  warnings: string[];
}

export interface TenantProof {
  planHash: string;
  xid: string;
  lsn: string;
  /** The tenant as it was committed. */
  digests: Digest[];
  /** By the server's own count, and nowhere else. */
  written: { table: string; inserted: number; updated: number; deleted: number }[];
  foreignKeys: string[];
  /** With --prove full. */
  others: OthersProof | null;
}

export interface TenantRestored extends TenantPlan {
  proof: TenantProof | null;
}

const ATTEMPTS = 3;
const AGAIN = ["40001", "40P01"];

const stateOf = (error: unknown): string =>
  ((error as Error).cause as { code?: string } | undefined)?.code ?? (error as { code?: string }).code ?? "";

/** One tenant's rows, in one transaction: the plan, the change and its proof, or nothing at all. */
export async function restoreTenantRows(restoring: TenantRestoring): Promise<TenantRestored> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await attemptRestore(restoring);
    } catch (error) {
      restoring.signal.throwIfAborted();
      if (attempt < ATTEMPTS && AGAIN.includes(stateOf(error))) continue;
      if (stateOf(error) === "55P03")
        throw new JBackupError(
          "postgres_failed",
          "rows of the tenant stayed locked by another session; nothing was changed",
          {
            hint: "look for long transactions in pg_stat_activity, then run the restore again",
            cause: error,
          },
        );
      throw error;
    }
  }
}

async function attemptRestore(restoring: TenantRestoring): Promise<TenantRestored> {
  const { session, signal, isDryRun } = restoring;
  signal.throwIfAborted();
  await session.run(
    `begin isolation level read committed read write; set local lock_timeout = '20s'; set local row_security = off; set local search_path = ''`,
  );
  const stop = cancelOnAbort(restoring);
  const { observe, onWaiting } = restoring;
  const stopWatching = watchWaits({ pid: processOf(session), observe, tell: onWaiting });
  try {
    const restored = await inTransaction(restoring);
    signal.throwIfAborted();
    if (isDryRun || restored.blockers.length > 0) await session.run("rollback");
    else {
      await restoring.onProved(restored);
      await session.run("commit");
      restoring.onCommitted();
    }
    return restored;
  } catch (error) {
    await session.run("rollback").catch(() => undefined); // a lost connection has rolled back already
    signal.throwIfAborted();
    throw error;
  } finally {
    stop();
    await stopWatching();
  }
}

async function inTransaction(restoring: TenantRestoring): Promise<TenantRestored> {
  const { session, graph, facts, isDryRun } = restoring;
  const targetId = restoring.cloning?.newId ?? facts.id;
  await requireCounting(session);
  const paired = pairTables(graph, facts, restoring.tables);
  const oids = [...paired.owned, ...paired.shared].map(({ live }) => live.table.oid);
  const keys = await foreignKeysOf(session, oids);
  const owned = parentsFirst(paired.owned, keys);
  const warnings = newerTables(graph, facts, restoring.tables);
  if (!isDryRun) await fence(restoring, targetId);
  const isSilent = restoring.triggers === "off" && (await silenceTriggers(session));

  await stageRows(session, [...owned, ...paired.shared], restoring.read, restoring.signal);
  await requireOwnRows(session, graph, owned, facts.id);
  const transformed = new Set<string>();
  if (restoring.erasures !== null)
    warnings.push(...(await applyErasures(session, owned, keys, restoring.erasures, transformed)));
  if (restoring.cloning !== null)
    warnings.push(...(await cloneStaged(session, graph, owned, keys, restoring.cloning, transformed)));
  await readLive(session, graph, owned, targetId, !isDryRun);
  restoring.onStaged();

  const shared = restoring.withShared ? await missingShared(session, paired.shared) : [];
  const lost = await lostValues(session, owned);
  const misfits = [...paired.blockers, ...lost];
  if (misfits.length > 0)
    return { tenantId: targetId, planHash: "", tables: [], blockers: misfits, warnings, proof: null };
  const difference = await compareTenant(session, graph, owned, shared, keys, restoring.changes);
  const blockers = [...difference.blockers];
  blockers.push(...(await triggerBlockers(restoring, difference, isSilent)));
  const plan: TenantPlan = {
    tenantId: targetId,
    planHash: difference.hash,
    tables: difference.tables,
    blockers,
    warnings,
  };
  if (isDryRun || blockers.length > 0) return { ...plan, proof: null };
  requireExpected(restoring, plan);
  requireAgreed(restoring, plan);

  const before = await writtenSoFar(session);
  const orphaned = await orphansBefore(session, difference.pendings, keys);
  const written = await writeAll(session, difference, owned.length, keys, isSilent);
  restoring.onWritten();

  warnings.push(...(await triggerWarnings(session, difference.pendings, isSilent)));
  warnings.push(...(await requireOnlyOurs(session, before, written, restoring.triggers === "fire")));
  await requireOwn(session, graph, before, targetId);
  if (restoring.cloning !== null) await requireOwnReferences(session, graph, owned, keys, targetId);
  if (isSilent) warnings.push(...(await requireNoOrphans(session, keys, orphaned)));
  const digests = await digestsOf(session, graph, owned, targetId);
  const { createMissing, updateExisting, deleteNew } = restoring.changes;
  const isReplaced = createMissing && updateExisting && deleteNew;
  if (isReplaced && restoring.triggers === "off") requireSameDigests(digests, owned, transformed);
  const others = restoring.provesOthers
    ? await proveOthers({
        session,
        observe: restoring.observe,
        graph,
        tenantId: targetId,
        addedTo: shared.filter(({ inserts }) => inserts > 0).map(({ table }) => table.oid),
        mayFire: restoring.triggers === "fire",
      })
    : null;
  await moveSequences(null, session, oids);
  const [at] = await session.rows<{ xid: string; lsn: string }>(
    "select txid_current()::text as xid, pg_current_wal_insert_lsn()::text as lsn",
  );
  return {
    ...plan,
    warnings,
    proof: {
      planHash: plan.planHash,
      xid: at?.xid ?? "",
      lsn: at?.lsn ?? "",
      digests,
      written: countsOf(written, difference),
      foreignKeys: isSilent ? checkedKeys(keys) : [],
      others,
    },
  };
}

/** The tenant stands still while everybody else goes on: nobody can add rows that refer to it, nor restore it twice at a time. */
async function fence({ session, graph }: TenantRestoring, tenantId: string): Promise<void> {
  await session.rows("select pg_advisory_xact_lock(hashtextextended($1, 0))", [`jbackup:tenant:${tenantId}`]);
  const { root } = graph;
  const owner = graph.tables.find(({ table }) => table === root)?.owner;
  const column = owner?.kind === "column" ? owner.column : "id";
  await session.rows(
    `select 1 as locked from ${root.from} where ${quoteName(column)} = ${quoteText(tenantId)} for update`,
  );
}

/** Tables that came after the backup keep what they have. */
function newerTables(graph: Graph, facts: TenantFacts, wanted: string[]): string[] {
  if (wanted.length > 0) return [];
  const newer = graph.tables.filter(
    ({ table, class: is }) =>
      ["direct", "child"].includes(is) &&
      !facts.tables.some(({ schema, name }) => schema === table.schema && name === table.name),
  );
  return newer.length === 0
    ? []
    : [
        `${newer.map(({ table }) => table.shown).join(", ")} came after the backup: rows there stay as they are`,
      ];
}

/** Where triggers cannot be kept silent they are told first, and take the operator's word. */
async function triggerBlockers(
  { session, triggers }: TenantRestoring,
  { pendings }: Difference,
  isSilent: boolean,
): Promise<string[]> {
  await refuseRules(session, pendings, isSilent);
  if (isSilent) {
    for (const pending of pendings) await settleTakeovers(session, pending, true);
    return [];
  }
  if (triggers === "fire") return [];
  const told = await triggerWarnings(session, pendings, false);
  return told.map(
    (text) =>
      `${text.replace(/ fired: .*/, "")} would fire, for this role cannot keep triggers silent (--triggers fire lets them)`,
  );
}

function requireExpected({ expectPlan }: TenantRestoring, { planHash, tenantId }: TenantPlan): void {
  if (expectPlan === null || expectPlan === planHash) return;
  throw new JBackupError(
    "conflict",
    `the plan for tenant ${tenantId} is ${planHash} now, not ${expectPlan}: rows were changed since the dry run`,
    { hint: "nothing was changed; look at a new plan with --dry-run", details: { planHash } },
  );
}

/** The plan that was asked about overwrote nothing, so nobody had to agree to it. */
function requireAgreed({ mayOverwrite }: TenantRestoring, { tables, tenantId }: TenantPlan): void {
  const overwritten = tables.reduce((sum, { updated, deleted }) => sum + updated + deleted, 0);
  if (mayOverwrite || overwritten === 0) return;
  throw new JBackupError(
    "needs_confirmation",
    `rows of tenant ${tenantId} were changed meanwhile: ${overwritten} would be overwritten now, and none when the plan was made`,
    { hint: `nothing was changed; give --confirm ${tenantId}` },
  );
}

async function writeAll(
  session: Session,
  { pendings }: Difference,
  ownTables: number,
  keys: ForeignKey[],
  isSilent: boolean,
): Promise<Written[]> {
  const own = pendings.slice(pendings.length - ownTables);
  try {
    if (!isSilent) await session.run("set constraints all deferred");
    const deleted = new Map<string, number>();
    for (const pending of own.toReversed()) {
      const many = await deleteGone(session, pending);
      if (many !== (pending.deletes ?? 0))
        throw proofFailed("rows moved away under their locks", [pending.table.shown]);
      deleted.set(pending.table.oid, many);
    }
    const written = await writePending(session, pendings, keys, isSilent, () => undefined);
    // whatever waits for the end runs now, so that the proof sees it; triggers that always fire wait as well
    await session.run("set constraints all immediate");
    return written.map((one) => ({ ...one, deleted: one.deleted + (deleted.get(one.oid) ?? 0) }));
  } catch (error) {
    throw refusal(error, "the live database");
  }
}

const countsOf = (written: Written[], { pendings }: Difference): TenantProof["written"] =>
  written
    .filter(({ inserted, updated, deleted }) => inserted + updated + deleted > 0)
    .map(({ oid, inserted, updated, deleted }) => ({
      table: pendings.find(({ table }) => table.oid === oid)?.table.shown ?? oid,
      inserted,
      updated,
      deleted,
    }));

/** A statement may run for minutes, and holds the tenant's locks as long as it runs. */
const processOf = ({ client }: Session): string =>
  String((client as unknown as { processID: number }).processID);

function cancelOnAbort({ session, signal, cancel }: TenantRestoring): () => void {
  const pid = Number(processOf(session));
  const stop = (): void => {
    cancel(pid).catch(() => session.abort());
  };
  signal.addEventListener("abort", stop);
  return () => signal.removeEventListener("abort", stop);
}
