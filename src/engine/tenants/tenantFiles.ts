import type { TenantFacts, TenantTableFacts } from "../../domain/tenantBackup.js";
import type { ReadTable } from "../../postgres/postgres.js";

export const LOAD_SCRIPT = "load.sql";

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** Where a table's rows stand in the backup: readable, and a file's name on any disk. */
export const entryOf = ({ table }: ReadTable, nth: number): string =>
  `tables/${String(nth + 1).padStart(3, "0")}-${`${table.schema}.${table.name}`.replace(/[^A-Za-z0-9._-]/g, "_")}.copy`;

export function tableFactsOf(
  read: ReadTable,
  nth: number,
  content: { rows: number; bytes: number; sha256: string },
): TenantTableFacts {
  const { table } = read;
  return {
    table: table.shown,
    schema: table.schema,
    name: table.name,
    class: read.class,
    columns: table.columns
      .filter(({ isGenerated }) => !isGenerated)
      .map(({ name, type, isNotNull }) => ({ name, type, isNotNull })),
    keyColumns: table.keyColumns,
    ...content,
    entry: entryOf(read, nth),
  };
}

/** Loads the tenant with psql alone, into a database that has the schema and does not have the tenant. */
export function loadScript(facts: TenantFacts): string {
  const shared = facts.tables.filter((table) => table.class === "shared" && table.rows > 0);
  const owned = facts.tables.filter((table) => table.class !== "shared");
  return [
    `-- Tenant ${oneLine(facts.id)}${facts.name === null ? "" : ` (${oneLine(facts.name)})`} of database ${oneLine(facts.database)}, as of ${facts.snapshotAt}.`,
    "-- Run it in this folder, in a database that has the schema but not the tenant:",
    "--   psql --set ON_ERROR_STOP=1 --single-transaction --file load.sql DATABASE",
    "-- Triggers and foreign keys stay silent meanwhile, which takes a superuser.",
    "set client_encoding = 'UTF8';",
    "set datestyle = 'ISO, MDY';",
    "set intervalstyle = 'postgres';",
    "set timezone = 'UTC';",
    "set row_security = off;",
    "set session_replication_role = replica;",
    ...shared.flatMap((table) => sharedLines(table)),
    ...owned.map((table) => copyLine(table, `${quoted(table.schema)}.${quoted(table.name)}`)),
    "set session_replication_role = origin;",
    sequenceBlock(owned),
    "",
  ].join("\n");
}

const oneLine = (text: string): string => text.replace(/\s+/g, " ");

const copyLine = ({ columns, entry }: TenantTableFacts, target: string): string =>
  `\\copy ${target}${columns.length === 0 ? "" : ` (${columns.map(({ name }) => quoted(name)).join(", ")})`} from '${entry}'`;

/** Rows that many tenants refer to may be there already. */
function sharedLines(table: TenantTableFacts): string[] {
  const target = `${quoted(table.schema)}.${quoted(table.name)}`;
  const columns = table.columns.map(({ name }) => quoted(name)).join(", ");
  return [
    `create temporary table jbackup_shared as select ${columns} from ${target} with no data;`,
    copyLine(table, "jbackup_shared"),
    `insert into ${target} (${columns}) overriding system value select ${columns} from jbackup_shared on conflict do nothing;`,
    "drop table jbackup_shared;",
  ];
}

/** Whatever sequences feed columns of the tables go behind the highest values, never back. */
const sequenceBlock = (tables: TenantTableFacts[]): string =>
  [
    "do $jbackup$ declare t regclass; c record; highest bigint; begin",
    `  foreach t in array array[${tables.map(({ schema, name }) => `'${`${quoted(schema)}.${quoted(name)}`.replaceAll("'", "''")}'`).join(", ")}]::regclass[] loop`,
    "    for c in select attname as name, pg_get_serial_sequence(t::text, attname) as seq from pg_attribute where attrelid = t and attnum > 0 and not attisdropped loop",
    "      if c.seq is null then continue; end if;",
    "      execute format('select max(%I)::bigint from %s', c.name, t) into highest;",
    "      if highest is not null then perform setval(c.seq, greatest(highest, nextval(c.seq) - 1)); end if;",
    "    end loop;",
    "  end loop;",
    "end $jbackup$;",
  ].join("\n");
