import { JBackupError } from "../domain/errors.js";
import { quoteName, type Session } from "./connection.js";

export interface ServerFacts {
  version: string;
  versionNum: number;
  major: number;
  systemId: string | null;
  inRecovery: boolean;
}

const firstRow = <Row>(rows: Row[], what: string): Row => {
  const [row] = rows;
  if (row === undefined) throw new JBackupError("bug", `PostgreSQL answered no row for ${what}`);
  return row;
};

export async function serverFacts(session: Session): Promise<ServerFacts> {
  const row = firstRow(
    await session.rows<{ version: string; num: string; recovery: string }>(
      "select current_setting('server_version') as version, current_setting('server_version_num') as num, pg_is_in_recovery()::text as recovery",
    ),
    "its version",
  );
  const allowed = firstRow(
    await session.rows<{ may: string }>(
      "select has_function_privilege('pg_control_system()', 'execute')::text as may",
    ),
    "a privilege",
  );
  const system =
    allowed.may === "true"
      ? firstRow(
          await session.rows<{ id: string }>("select system_identifier::text as id from pg_control_system()"),
          "its id",
        ).id
      : null;
  const versionNum = Number(row.num);
  return {
    version: row.version,
    versionNum,
    major: Math.floor(versionNum / 10_000),
    systemId: system,
    inRecovery: row.recovery === "true",
  };
}

/** What CREATE DATABASE and ALTER DATABASE need to make an equal one; pg_restore alone would not set it. */
export interface DatabaseFacts {
  name: string;
  owner: string;
  encoding: string;
  collate: string;
  ctype: string;
  provider: string;
  locale: string | null;
  connectionLimit: number;
  /** The default tablespace; backups of early versions do not tell. */
  tablespace?: string;
  comment: string | null;
  /** Grants on the database as (grantee, privilege, grantable); null where it has the default ones. */
  grants: { grantee: string | null; privilege: string; grantable: boolean }[] | null;
  /** ALTER DATABASE ... SET, for the database or for one role in it. */
  settings: { role: string | null; setting: string }[];
  bytes: number;
}

export async function databaseFacts(session: Session, major: number): Promise<DatabaseFacts> {
  // the provider's locale has had three names
  const locale = major >= 17 ? "datlocale" : major >= 15 ? "daticulocale" : "null::text";
  const provider = major >= 15 ? "datlocprovider" : "'c'";
  const row = firstRow(
    await session.rows<Record<string, string>>(
      `select datname as name, pg_get_userbyid(datdba) as owner, pg_encoding_to_char(encoding) as encoding, datcollate as collate,
              datctype as ctype, ${provider} as provider, ${locale} as locale, datconnlimit::text as connlimit,
              (select spcname from pg_tablespace t where t.oid = dattablespace) as tablespace,
              shobj_description(oid, 'pg_database') as comment, (datacl is null)::text as plain, pg_database_size(oid)::text as bytes
         from pg_database where datname = current_database()`,
    ),
    "the database",
  );
  const grants = await session.rows<{ grantee: string | null; privilege: string; grantable: string }>(
    `select case when a.grantee = 0 then null else pg_get_userbyid(a.grantee) end as grantee, a.privilege_type as privilege, a.is_grantable::text as grantable
       from pg_database d, aclexplode(d.datacl) a where d.datname = current_database() order by 1 nulls first, 2`,
  );
  const settings = await session.rows<{ role: string | null; setting: string }>(
    `select case when s.setrole = 0 then null else pg_get_userbyid(s.setrole) end as role, unnest(s.setconfig) as setting
       from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase where d.datname = current_database()`,
  );
  return {
    name: row.name ?? "",
    owner: row.owner ?? "",
    encoding: row.encoding ?? "UTF8",
    collate: row.collate ?? "C",
    ctype: row.ctype ?? "C",
    provider: row.provider ?? "c",
    locale: row.locale ?? null,
    connectionLimit: Number(row.connlimit ?? -1),
    tablespace: row.tablespace ?? "pg_default",
    comment: row.comment ?? null,
    grants:
      row.plain === "true"
        ? null
        : grants.map((grant) => ({ ...grant, grantable: grant.grantable === "true" })),
    settings,
    bytes: Number(row.bytes ?? 0),
  };
}

export interface TableName {
  schema: string;
  name: string;
}

export interface TableRows {
  table: string;
  rows: number;
}

export const qualified = ({ schema, name }: TableName): string => `${quoteName(schema)}.${quoteName(name)}`;

/** Readable: quotes only where a name needs them. */
export const shownTable = ({ schema, name }: TableName): string =>
  [schema, name].map((part) => (/^[a-z_][a-z0-9_$]*$/.test(part) ? part : quoteName(part))).join(".");

/** Ordinary tables and partitions that hold rows of the user's: what a dump must bring back. */
export async function userTables(session: Session): Promise<TableName[]> {
  return session.rows<{ schema: string; name: string }>(
    `select n.nspname as schema, c.relname as name
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and c.relpersistence <> 't'
        and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
        and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
      order by 1, 2`,
  );
}

export async function countRows(
  session: Session,
  tables: TableName[],
  onTable?: (done: number) => void,
): Promise<TableRows[]> {
  const counts: TableRows[] = [];
  for (const table of tables) {
    const [row] = await session.rows<{ rows: string }>(
      `select count(*)::text as rows from only ${qualified(table)}`,
    );
    counts.push({ table: shownTable(table), rows: Number(row?.rows) });
    onTable?.(counts.length);
  }
  return counts;
}

/** Things a dump does not carry, or carries only in part: they are said, never dropped in silence. */
export async function notCarried(session: Session): Promise<string[]> {
  const rows = await session.rows<{ kind: string; names: string; many: string }>(
    `select kind, string_agg(name, ', ' order by name) as names, count(*)::text as many from (
       select case c.relkind when 'f' then 'foreign tables (their rows live elsewhere)' end as kind, n.nspname || '.' || c.relname as name
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'f'
       union all
       select 'subscriptions (restored disabled)', subname from pg_stat_subscription
       union all
       select 'unlogged tables (emptied by a crash of the server)', n.nspname || '.' || c.relname
         from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and c.relpersistence = 'u'
     ) found group by kind`,
  );
  return rows.map(({ kind, names, many }) => `${many} ${kind}: ${names}`);
}

/** Tables whose row-level security would hide rows from this role. */
export async function filteredTables(session: Session): Promise<string[]> {
  const rows = await session.rows<{ schema: string; name: string }>(
    `select n.nspname as schema, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relrowsecurity and row_security_active(c.oid) order by 1, 2`,
  );
  return rows.map(shownTable);
}
