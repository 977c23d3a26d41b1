import { readdir, realpath } from "node:fs/promises";
import { quoteName, type Session } from "./connection.js";
import { serverFacts } from "./facts.js";

export interface LocalServer {
  socketDirectory: string;
  port: number;
}

const SOCKET = /^\.s\.PGSQL\.(\d+)$/;
const USUAL_PLACES = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/** The servers that listen on a socket of this host; `place` is where the user's own programs look, if that is said. */
export async function findLocalServers(place: string | undefined): Promise<LocalServer[]> {
  const found = new Map<string, LocalServer>();
  for (const socketDirectory of place?.startsWith("/") ? [place] : USUAL_PLACES) {
    for (const name of await namesIn(socketDirectory)) {
      const port = Number(SOCKET.exec(name)?.[1] ?? Number.NaN);
      if (!Number.isInteger(port)) continue;
      const real = await realpath(socketDirectory);
      if (!found.has(`${real}:${port}`)) found.set(`${real}:${port}`, { socketDirectory, port });
    }
  }
  return [...found.values()].sort((a, b) => a.port - b.port);
}

const namesIn = (directory: string): Promise<string[]> =>
  readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(error.code ?? "")) return [];
    throw error;
  });

export interface ServerLook {
  version: string;
  major: number;
  database: string;
  user: string;
  isSuperuser: boolean;
  inRecovery: boolean;
  walLevel: string;
  hasChecksums: boolean;
  /** Those that one may connect to, the largest first. */
  databases: { name: string; bytes: number }[];
  clusterBytes: number;
  /** Statements that give the role what it lacks: for physical backups, and for reading every row. */
  lacks: { physical: string[]; rows: string[] };
}

/** All that must be known of a server before it is backed up. */
export async function lookAtServer(session: Session): Promise<ServerLook> {
  const { version, major, inRecovery } = await serverFacts(session);
  const [row] = await session.rows<Record<string, string>>(
    `select rolsuper::text as super, current_setting('wal_level') as level, current_setting('data_checksums') as checksums
       from pg_roles where rolname = current_user`,
  );
  const databases = (
    await session.rows<{ name: string; bytes: string }>(
      `select datname as name, pg_database_size(oid)::text as bytes from pg_database
        where datallowconn and not datistemplate and has_database_privilege(oid, 'connect') order by pg_database_size(oid) desc, 1`,
    )
  ).map(({ name, bytes }) => ({ name, bytes: Number(bytes) }));
  const isSuperuser = row?.super === "true";
  return {
    version,
    major,
    database: session.address.database,
    user: session.address.user,
    isSuperuser,
    inRecovery,
    walLevel: row?.level ?? "",
    hasChecksums: row?.checksums === "on",
    databases,
    clusterBytes: databases.reduce((sum, { bytes }) => sum + bytes, 0),
    lacks: isSuperuser ? { physical: [], rows: [] } : await rightsLacking(session, major),
  };
}

async function rightsLacking(session: Session, major: number): Promise<ServerLook["lacks"]> {
  const who = quoteName(session.address.user);
  const [row] = await session.rows<Record<string, string>>(
    `select rolreplication::text as replication, rolbypassrls::text as bypass,
            pg_has_role(current_user, 'pg_monitor', 'member')::text as monitor,
            ${major >= 14 ? "pg_has_role(current_user, 'pg_read_all_data', 'member')::text" : "'true'"} as reads
       from pg_roles where rolname = current_user`,
  );
  const functions = await session.rows<{ name: string }>(
    `select p.oid::regprocedure::text as name from pg_proc p
      where p.pronamespace = 'pg_catalog'::regnamespace and not has_function_privilege(p.oid, 'execute')
        and p.proname in ('pg_backup_start', 'pg_backup_stop', 'pg_start_backup', 'pg_stop_backup', 'pg_switch_wal')`,
  );
  return {
    physical: [
      ...(row?.replication === "true" ? [] : [`alter role ${who} replication`]),
      ...(row?.monitor === "true" ? [] : [`grant pg_monitor to ${who}`]),
      ...functions.map(({ name }) => `grant execute on function ${name} to ${who}`),
    ],
    rows: [
      ...(row?.bypass === "true" ? [] : [`alter role ${who} bypassrls`]),
      ...(row?.reads === "true" ? [] : [`grant pg_read_all_data to ${who}`]),
    ],
  };
}
