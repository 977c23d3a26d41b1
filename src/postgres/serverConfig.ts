import { join } from "node:path";
import { isJBackupError } from "../domain/errors.js";
import { connect, libpqVariables, type Session, type Target } from "./connection.js";
import { type ServerFacts, serverFacts } from "./facts.js";
import { binariesFor, type DumpSettings } from "./logicalDump.js";
import { startTool } from "./tools.js";

type Row = Record<string, string | null>;

export interface ConfiguredDatabase {
  name: string;
  owner: string;
  encoding: string;
  collate: string;
  ctype: string;
  locale: string | null;
  extensions: { name: string; version: string; schema: string }[];
}

/** How a server is set up, beside what is in its databases. */
export interface ServerConfig {
  server: ServerFacts;
  /** Connected to over a socket or the loopback: its files and packages are on this host. */
  isHere: boolean;
  dataDirectory: string | null;
  /** Whatever is not as it comes out of the box. */
  settings: Row[];
  /** Null where the role may not look. */
  hba: Row[] | null;
  ident: Row[] | null;
  databases: ConfiguredDatabase[];
  tablespaces: { name: string; location: string; owner: string; options: string | null }[];
  /** The configuration files that the server itself names. */
  files: string[];
  /** What the role may not see, with the grant that lets it. */
  hidden: string[];
  /** The content of one of its files, as far as the role may read it. */
  readFile(path: string): Promise<string | null>;
  /** All roles as SQL; with their passwords where the role may read them. */
  roles(): AsyncIterable<Buffer>;
  close(): Promise<void>;
}

const SETTINGS = `select name, setting as value, unit, source, sourcefile, sourceline::text as sourceline, context, pending_restart::text as "pendingRestart"
  from pg_catalog.pg_settings where source not in ('default', 'client', 'session', 'override') or sourcefile is not null order by name`;
const TABLESPACES = `select spcname as name, pg_catalog.pg_tablespace_location(oid) as location, pg_catalog.pg_get_userbyid(spcowner) as owner,
  spcoptions::text as options from pg_catalog.pg_tablespace where spcname !~ '^pg_' order by 1`;
const EXTENSIONS = `select e.extname as name, e.extversion as version, n.nspname as schema from pg_catalog.pg_extension e
  join pg_catalog.pg_namespace n on n.oid = e.extnamespace order by 1`;

export async function openServerConfig(settings: DumpSettings): Promise<ServerConfig> {
  const session = await connect(settings.target, settings.user);
  try {
    return await read(session, settings);
  } catch (error) {
    await session.close();
    throw error;
  }
}

async function read(session: Session, settings: DumpSettings): Promise<ServerConfig> {
  const server = await serverFacts(session);
  const hidden: string[] = [];
  const [paths] = await session.rows<Row>(
    `select case when pg_has_role(current_user, 'pg_read_all_settings', 'member') then current_setting('data_directory') end as data,
            has_table_privilege('pg_catalog.pg_authid', 'select')::text as passwords`,
  );
  const role = session.address.user;
  if (paths?.data == null) hidden.push(`where its files are: grant pg_read_all_settings to ${role}`);
  const readsPasswords = paths?.passwords === "true";
  if (!readsPasswords) hidden.push("the passwords of roles: only a superuser may read them");
  return {
    server,
    isHere: isLocal(session.address.host),
    dataDirectory: paths?.data ?? null,
    settings: await session.rows<Row>(SETTINGS),
    hba: await view(session, "pg_hba_file_rules", hidden),
    ident: server.major >= 15 ? await view(session, "pg_ident_file_mappings", hidden) : null,
    databases: await databasesOf(session, settings, hidden),
    tablespaces: (await session.rows<Row>(TABLESPACES)).map(({ name, location, owner, options }) => ({
      name: name ?? "",
      location: location ?? "",
      owner: owner ?? "",
      options: options ?? null,
    })),
    files: await filesOf(session, paths?.data ?? null),
    hidden,
    readFile: (path) => readServerFile(session, path),
    roles: () => rolesOf(session, settings, server.major, readsPasswords),
    close: () => session.close(),
  };
}

const isLocal = (host: string): boolean =>
  host.startsWith("/") || ["localhost", "127.0.0.1", "::1"].includes(host);

/** A view over a file of the server's, for which a right may be missing. */
async function view(session: Session, name: string, hidden: string[]): Promise<Row[] | null> {
  try {
    return await session
      .rows<Row>(`select to_json(v)::text as line from pg_catalog.${name} v`)
      .then((rows) => rows.map(({ line }) => JSON.parse(line ?? "{}") as Row));
  } catch (error) {
    if (!isJBackupError(error, "postgres_denied")) throw error;
    hidden.push(`${name}: grant select on ${name}, and execute on its function, to ${session.address.user}`);
    return null;
  }
}

async function databasesOf(
  session: Session,
  { target, user }: { target: Target; user: string },
  hidden: string[],
): Promise<ConfiguredDatabase[]> {
  const { major } = await serverFacts(session);
  const locale = major >= 17 ? "datlocale" : major >= 15 ? "daticulocale" : "null::text";
  const rows = await session.rows<Row>(
    `select datname as name, pg_catalog.pg_get_userbyid(datdba) as owner, pg_catalog.pg_encoding_to_char(encoding) as encoding,
            datcollate as collate, datctype as ctype, ${locale} as locale, (datallowconn and has_database_privilege(oid, 'connect'))::text as open
       from pg_catalog.pg_database where not datistemplate order by 1`,
  );
  const databases: ConfiguredDatabase[] = [];
  for (const { name, owner, encoding, collate, ctype, locale: own, open } of rows) {
    const known = {
      name: name ?? "",
      owner: owner ?? "",
      encoding: encoding ?? "",
      collate: collate ?? "",
      ctype: ctype ?? "",
      locale: own ?? null,
    };
    const extensions = open === "true" ? await extensionsOf({ ...target, database: known.name }, user) : null;
    if (extensions === null)
      hidden.push(`the extensions of database ${known.name}: it lets nobody in, or not this role`);
    databases.push({ ...known, extensions: extensions ?? [] });
  }
  return databases;
}

async function extensionsOf(target: Target, user: string): Promise<ConfiguredDatabase["extensions"] | null> {
  try {
    const session = await connect(target, user);
    try {
      return (await session.rows<Row>(EXTENSIONS)) as unknown as ConfiguredDatabase["extensions"];
    } finally {
      await session.close();
    }
  } catch (error) {
    if (isJBackupError(error, "postgres_denied", "postgres_unreachable", "database_missing")) return null;
    throw error;
  }
}

async function filesOf(session: Session, dataDirectory: string | null): Promise<string[]> {
  if (dataDirectory === null) return [];
  const rows = await session.rows<Row>(
    `select setting as file from pg_catalog.pg_settings where name in ('config_file', 'hba_file', 'ident_file') and setting is not null
      union select sourcefile from pg_catalog.pg_settings where sourcefile is not null`,
  );
  const named = rows.flatMap(({ file }) => (file === null || file === undefined ? [] : [file]));
  return [...new Set([...named, join(dataDirectory, "postgresql.auto.conf")])].sort();
}

async function readServerFile(session: Session, path: string): Promise<string | null> {
  try {
    const [row] = await session.rows<Row>("select pg_catalog.pg_read_file($1) as content", [path]);
    return row?.content ?? null;
  } catch (error) {
    if (isJBackupError(error, "postgres_denied", "postgres_failed")) return null; // not allowed, or not there
    throw error;
  }
}

async function* rolesOf(
  session: Session,
  settings: DumpSettings,
  major: number,
  readsPasswords: boolean,
): AsyncGenerator<Buffer> {
  const binaries = await binariesFor("pg_dumpall", major, settings);
  const run = startTool(
    join(binaries.path, "pg_dumpall"),
    [
      "--roles-only",
      "--no-password",
      ...(readsPasswords ? [] : ["--no-role-passwords"]),
      `--database=${session.address.database}`,
    ],
    {
      environment: settings.environment,
      variables: libpqVariables(settings.target, settings.user),
      signal: settings.signal,
    },
  );
  for await (const chunk of run.stdout) yield chunk as Buffer;
  await run.done;
}
