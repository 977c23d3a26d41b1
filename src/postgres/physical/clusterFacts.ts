import type { Census } from "../../domain/census.js";
import { JBackupError } from "../../domain/errors.js";
import type { Session } from "../connection.js";
import { type ServerFacts, serverFacts } from "../facts.js";
import { takeCensus } from "./census.js";

export interface ClusterFacts {
  server: ServerFacts & { systemId: string };
  dataDirectory: string;
  startedAtSeconds: number;
  hasOwnConfiguration: boolean;
  walSegmentBytes: number;
  hasPageChecksums: boolean;
  superuser: string;
  tablespaces: { oid: string; name: string; location: string }[];
  settings: Record<string, string>;
  /** What all databases come to, for progress. */
  bytes: number;
  summarizesWal: boolean;
  census: Census;
}

const OLDEST_MAJOR = 13;

/** Settings that a server on the restored files needs in order to replay, or that whoever restores will want to know. */
const TOLD = [
  "max_connections",
  "max_worker_processes",
  "max_wal_senders",
  "max_prepared_transactions",
  "max_locks_per_transaction",
  "shared_preload_libraries",
  "shared_buffers",
  "wal_level",
  "lc_messages",
];

export async function clusterFacts(session: Session): Promise<ClusterFacts> {
  const server = await serverFacts(session);
  if (server.major < OLDEST_MAJOR)
    throw new JBackupError(
      "version_mismatch",
      `PostgreSQL ${server.version} is too old for physical backups`,
      { hint: `they need PostgreSQL ${OLDEST_MAJOR} or newer; jbackup backup full --logical works` },
    );
  await requireRights(session);
  if (server.systemId === null) throw denied("may not read the cluster's identifier");
  const [row] = await session.rows<Record<string, string>>(
    `select current_setting('data_directory') as directory, current_setting('config_file') as config,
            extract(epoch from pg_postmaster_start_time())::bigint::text as started,
            (select setting from pg_settings where name = 'wal_segment_size') as segment,
            current_setting('data_checksums') as checksums,
            (select rolname from pg_roles where oid = 10) as superuser,
            (select sum(pg_database_size(oid))::text from pg_database
              where has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'member')) as bytes,
            coalesce(current_setting('summarize_wal', true), 'off') as summarize,
            current_setting('wal_level') as level`,
  );
  if (row === undefined) throw new JBackupError("bug", "PostgreSQL answered no row about itself");
  if (row.level === "minimal")
    throw new JBackupError("environment", "wal_level is minimal: the files alone cannot be made consistent", {
      hint: "set wal_level = replica in postgresql.conf and restart the server, or use jbackup backup full --logical",
    });
  const tablespaces = await session.rows<{ oid: string; name: string; location: string }>(
    `select oid::text as oid, spcname as name, pg_tablespace_location(oid) as location
       from pg_tablespace where pg_tablespace_location(oid) like '/%' order by oid`,
  );
  const settings = await session.rows<{ name: string; setting: string }>(
    "select name, setting from pg_settings where name = any($1) order by name",
    [TOLD],
  );
  const directory = row.directory ?? "";
  return {
    server: { ...server, systemId: server.systemId },
    dataDirectory: directory,
    startedAtSeconds: Number(row.started),
    hasOwnConfiguration: (row.config ?? "").startsWith(`${directory}/`),
    walSegmentBytes: Number(row.segment),
    hasPageChecksums: row.checksums === "on",
    superuser: row.superuser ?? "postgres",
    tablespaces,
    settings: Object.fromEntries(settings.map(({ name, setting }) => [name, setting])),
    bytes: Number(row.bytes),
    summarizesWal: row.summarize === "on",
    census: await takeCensus(session),
  };
}

const denied = (what: string): JBackupError =>
  new JBackupError("postgres_denied", `the role in database.url ${what}`, {
    hint: "use a superuser, or: alter role NAME replication; grant pg_read_all_settings to NAME; and grant execute on the functions that begin and end a backup",
  });

/** Asked first, so that nothing has begun when something is missing. */
async function requireRights(session: Session): Promise<void> {
  const [row] = await session.rows<Record<string, string>>(
    `select rolsuper::text as super, (rolsuper or rolreplication)::text as replication,
            pg_has_role(current_user, 'pg_read_all_settings', 'member')::text as settings
       from pg_roles where rolname = current_user`,
  );
  if (row?.super === "true") return;
  if (row?.replication !== "true") throw denied("has no replication right, which a physical backup needs");
  if (row.settings !== "true") throw denied("may not read the server's settings");
  const functions = await session.rows<{ name: string }>(
    `select p.oid::regprocedure::text as name from pg_proc p
      where p.pronamespace = 'pg_catalog'::regnamespace
        and p.proname in ('pg_backup_start', 'pg_backup_stop', 'pg_start_backup', 'pg_stop_backup')
        and not has_function_privilege(p.oid, 'execute')`,
  );
  if (functions.length === 0) return;
  const names = functions.map(({ name }) => name);
  throw new JBackupError(
    "postgres_denied",
    `the role in database.url may not execute ${names.join(" and ")}`,
    {
      hint: `grant execute on function ${names.join(", ")} to NAME, in the database that database.url names`,
    },
  );
}
