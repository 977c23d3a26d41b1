import { createHash } from "node:crypto";
import { JBackupError } from "../../domain/errors.js";
import { isOwned } from "../../domain/tenantGraph.js";
import { quoteName, type Session } from "../connection.js";
import { type ServerFacts, serverFacts } from "../facts.js";
import { type Graph, storedColumns } from "./ownership.js";
import type { TenantTable } from "./schema.js";

/** One moment of the database, which several sessions read at the same time. */
export interface TenantSnapshot {
  /** As pg_export_snapshot names it, for sessions of other roles. */
  id: string;
  graph: Graph;
  server: ServerFacts;
  timeline: number | null;
  takenAt: string;
  lsn: string;
  role: string;
  database: string;
  schemaFingerprint: string;
  /** Each has a transaction in the same snapshot. The first one keeps it. */
  sessions: Session[];
  /** For one more session of the snapshot, in its transaction: it must not have to wait for locks once it reads. */
  lock(session: Session): Promise<void>;
  /** What is locked stays as it is; this tells about what was added beside it. */
  isSchemaSame(): Promise<boolean>;
  close(): Promise<void>;
}

export interface SnapshotWish {
  connect(): Promise<Session>;
  /** Classifies the tables as they are for the session; called again whenever they may have changed. */
  readGraph(session: Session): Promise<Graph>;
  sessions: number;
}

const READ_ONLY = "begin transaction isolation level repeatable read, read only";
const ATTEMPTS = 5;

/** Tables whose rows are read: those of tenants, and shared ones, whose rows they refer to. */
export const readTables = (graph: Graph): TenantTable[] =>
  graph.tables.filter((table) => isOwned(table) || table.class === "shared").map(({ table }) => table);

/** Locks come before the snapshot: a table truncated or rewritten in between would be read empty, and nothing would say so. */
export async function openTenantSnapshot(wish: SnapshotWish): Promise<TenantSnapshot> {
  for (let attempt = 1; ; attempt++)
    try {
      return await takeSnapshot(wish);
    } catch (error) {
      if (!isLockTimeout(error)) throw error;
      if (attempt < ATTEMPTS) continue; // whoever waited for us is through by now
      throw new JBackupError("postgres_failed", "a table stayed locked by somebody else for 30 s", {
        hint: "look for long ALTER TABLE, TRUNCATE or LOCK statements in pg_stat_activity, then try again",
        cause: error,
      });
    }
}

/**
 * Every session locks the tables for itself. One that did not would queue behind a TRUNCATE or ALTER TABLE that waits for
 * the others, and both would wait for ever.
 */
async function takeSnapshot(wish: SnapshotWish): Promise<TenantSnapshot> {
  const first = await wish.connect();
  const sessions = [first];
  const close = async (): Promise<void> => {
    await Promise.all(sessions.map((session) => session.close()));
  };
  try {
    await first.run("set row_security = off; set lc_monetary = 'C'");
    const { graph, snapshot } = await lockAndExport(first, wish);
    await requireFullSight(first, readTables(graph));
    for (let nth = 1; nth < wish.sessions; nth++) sessions.push(await join(wish, snapshot, graph));
    const server = await serverFacts(first);
    const place = await placeOf(first);
    const schemaFingerprint = fingerprintOf(graph);
    return {
      id: snapshot,
      graph,
      server,
      ...place,
      role: first.address.user,
      database: first.address.database,
      schemaFingerprint,
      sessions,
      lock: (session) => lockTables(session, graph),
      isSchemaSame: async () => {
        const session = await wish.connect();
        try {
          await session.run("set lock_timeout = '1s'");
          return fingerprintOf(await wish.readGraph(session)) === schemaFingerprint;
        } catch (error) {
          if (!isLockTimeout(error)) throw error;
          return false; // somebody waits to change it
        } finally {
          await session.close();
        }
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function lockAndExport(
  session: Session,
  wish: SnapshotWish,
): Promise<{ graph: Graph; snapshot: string }> {
  for (let attempt = 1; ; attempt++) {
    const before = await wish.readGraph(session);
    try {
      await session.run(`${READ_ONLY}; set local lock_timeout = '30s'`);
      // the first statement of all: it takes no snapshot
      await session.run(lockSql(before));
      const [row] = await session.rows<{ snapshot: string }>("select pg_export_snapshot() as snapshot");
      if (row === undefined) throw new JBackupError("bug", "PostgreSQL exported no snapshot");
      const graph = await wish.readGraph(session);
      if (fingerprintOf(graph) === fingerprintOf(before)) return { graph, snapshot: row.snapshot };
      await session.run("rollback");
    } catch (error) {
      await session.run("rollback");
      if (isLockTimeout(error))
        throw new JBackupError("postgres_failed", "a table stayed locked by somebody else for 30 s", {
          hint: "look for long ALTER TABLE, TRUNCATE or LOCK statements in pg_stat_activity, then try again",
        });
      // a table dropped between listing and locking: list again
      if (stateOf(error) !== "42P01") throw error;
    }
    if (attempt === ATTEMPTS)
      throw new JBackupError("postgres_failed", "the schema keeps changing: tenants cannot be read", {
        hint: "run the backup again when the migration is through",
      });
  }
}

const stateOf = (error: unknown): string | undefined =>
  ((error as Error).cause as { code?: string } | undefined)?.code;

const isLockTimeout = (error: unknown): boolean => stateOf(error) === "55P03";

const lockTables = (session: Session, graph: Graph): Promise<void> =>
  session.run(`set local lock_timeout = '2s'; ${lockSql(graph)}`);

const lockSql = (graph: Graph): string =>
  `lock table ${readTables(graph)
    .map(({ from }) => from)
    .join(", ")} in access share mode`;

async function join(wish: SnapshotWish, snapshot: string, graph: Graph): Promise<Session> {
  const session = await wish.connect();
  try {
    await session.run(
      `set row_security = off; set lc_monetary = 'C'; ${READ_ONLY}; set transaction snapshot '${snapshot.replaceAll("'", "''")}'`,
    );
    await lockTables(session, graph);
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}

async function requireFullSight(session: Session, tables: TenantTable[]): Promise<void> {
  const hidden = await session.rows<{ name: string }>(
    "select oid::regclass::text as name from pg_class where oid = any($1::oid[]) and row_security_active(oid) order by 1",
    [tables.map(({ oid }) => oid)],
  );
  if (hidden.length === 0) return;
  const { user } = session.address;
  throw new JBackupError(
    "postgres_denied",
    `row-level security hides rows of ${hidden.map(({ name }) => name).join(", ")} from user "${user}"`,
    {
      hint: `a backup must see every row: ALTER ROLE ${quoteName(user)} BYPASSRLS, or name another role in database.url`,
    },
  );
}

async function placeOf(session: Session): Promise<Pick<TenantSnapshot, "takenAt" | "lsn" | "timeline">> {
  const [row] = await session.rows<{ at: string; lsn: string; timeline: string | null }>(
    `select to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at,
            (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text as lsn,
            case when has_function_privilege('pg_control_checkpoint()', 'execute') then (select timeline_id::text from pg_control_checkpoint()) end as timeline`,
  );
  if (row === undefined) throw new JBackupError("bug", "PostgreSQL does not say where its WAL is");
  return { takenAt: row.at, lsn: row.lsn, timeline: row.timeline === null ? null : Number(row.timeline) };
}

/** All that decides what is read and how it can be written back. */
function fingerprintOf(graph: Graph): string {
  const tables = graph.tables
    .filter((table) => isOwned(table) || table.class === "shared")
    .map(({ table, class: is, owner }) => ({
      table: `${table.schema}.${table.name}`,
      is,
      owner: owner?.kind === "reference" ? owner.reference.name : (owner?.column ?? null),
      columns: storedColumns(table).map(({ name, type, isNotNull, identity }) => [
        name,
        type,
        isNotNull,
        identity,
      ]),
      key: table.keyColumns,
    }))
    .sort((a, b) => (a.table < b.table ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(tables)).digest("hex");
}
