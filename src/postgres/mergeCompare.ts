import { pipeline } from "node:stream/promises";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { quoteName, type Session, translate } from "./connection.js";
import type { Uniqueness } from "./mergeCatalog.js";
import { columnList, conflict, count, list, sameKey, write } from "./mergeSql.js";
import type { MergeTable } from "./mergeTables.js";

export type ConflictPolicy = "skip" | "overwrite" | "fail";

/**
 * What the merge would write to one table. The rows stand in a temporary table with the live table's columns and two more:
 * jbackup_action (insert | update | replace: deleted and inserted anew) and jbackup_left (the constraint for which the row is left out).
 */
export interface Pending {
  table: MergeTable;
  rows: string;
  /** Rows of the backup. */
  total: number;
  inserts: number;
  /** Rows that exist with other values; under `skip` nobody counts them. */
  updates: number;
  replaces: number;
  /** How many rows were left out, by the reason. */
  left: { reason: string; rows: number }[];
  /** Live rows that will go before anything is written, and where they stand; merges delete nothing. */
  deletes?: number;
  gone?: string;
}

export interface Sides {
  source: Session;
  target: Session;
  signal: AbortSignal;
  /** Wraps a copy, which no other session has to cancel. */
  duringCopy<Result>(run: () => Promise<Result>): Promise<Result>;
}

/** Reads one table of the backup beside the live one and keeps the rows that make a difference. */
export async function compareTable(
  sides: Sides,
  table: MergeTable,
  nth: number,
  policy: ConflictPolicy,
): Promise<Pending> {
  const { target } = sides;
  const staging = `pg_temp.jbackup_staging_${nth}`;
  const rows = `pg_temp.jbackup_rows_${nth}`;
  const total = await stage(sides, table, staging);
  await target.run(makePending(table, rows));
  const { key, from } = table;
  const inserts = await write(
    target,
    key ? missingByKey(table, key, staging, rows, from) : missingByCount(table, staging, rows, from),
  );
  const updates =
    key && policy !== "skip" ? await write(target, differing(table, key, staging, rows, from)) : 0;
  // made in this transaction, so its disk space comes back at once, not at the end
  await target.run(`truncate ${staging}; analyze ${rows}`);
  return { table, rows, total, inserts, updates, replaces: 0, left: [] };
}

/** An empty table for what is pending. */
export const makePending = (table: MergeTable, rows: string): string =>
  `create temporary table ${rows} (like ${table.from.replace(/^only /, "")} including defaults including generated) on commit drop;
   ${table.columns
     .filter(({ identity }) => identity !== "")
     .map(({ name }) => `alter table ${rows} alter ${quoteName(name)} drop not null;`)
     .join(" ")}
   alter table ${rows} add jbackup_action text default 'insert', add jbackup_left text`;

/** The table's rows as text, from the backup's database into a temporary table of the live one; memory holds a chunk at a time. */
async function stage(sides: Sides, table: MergeTable, staging: string): Promise<number> {
  const { source, target, signal } = sides;
  const { shared, key } = table;
  await target.run(
    `create temporary table ${staging} on commit drop as select ${list(shared)} from ${table.from} with no data`,
  );
  const copied = await sides.duringCopy(async () => {
    const reading = source.client.query(
      copyTo(`copy (select ${list(shared)} from ${table.sourceFrom}) to stdout`),
    );
    const writing = target.client.query(copyFrom(`copy ${staging} ${columnList(shared)} from stdin`));
    try {
      await pipeline(reading, writing, { signal });
    } catch (error) {
      signal.throwIfAborted();
      throw translate(error, target.address);
    }
    return writing.rowCount;
  });
  await target.run(`analyze ${staging}`);
  if (key) await requireDistinct(target, table, key, staging);
  return copied;
}

/** The live key may be younger than the backup. */
async function requireDistinct(
  target: Session,
  table: MergeTable,
  key: Uniqueness,
  staging: string,
): Promise<void> {
  const columns = key.parts.map(({ expression }) => expression).join(", ");
  const repeated = await count(
    target,
    `(select from ${staging} group by ${columns} having count(*) > 1) repeated`,
  );
  if (repeated === 0) return;
  throw conflict(
    [
      `the backup holds ${repeated} ${repeated === 1 ? "value" : "values"} of ${key.name} of ${table.shown} several times`,
    ],
    "the backup is older than this key: restore it beside with --into-db",
  );
}

/** Rows that `live` lacks: the whole table, or that part of it that counts. */
export const missingByKey = (
  table: MergeTable,
  key: Uniqueness,
  staging: string,
  rows: string,
  live: string,
): string =>
  `insert into ${rows} (${list(table.shared)}) select ${list(table.shared, "s")} from ${staging} s
    where not exists (select from ${live} t where ${sameKey(key, "t", "s")})`;

/** A whole row as text, which everything can be compared as. */
export const imageOf = (columns: { name: string }[], alias: string): string =>
  `row(${list(columns, alias)})::text collate "C"`;

/** Without a key rows are counted: as many equal ones as the backup has, none fewer than there are. */
export const missingByCount = (
  { shared }: MergeTable,
  staging: string,
  rows: string,
  live: string,
): string => {
  const image = (alias: string): string => imageOf(shared, alias);
  const columns = [...shared.map(({ name }) => quoteName(name)), "jbackup_action"].join(", ");
  const values = [...shared.map(({ name }) => `s.${quoteName(name)}`), "'insert'"].join(", ");
  return `insert into ${rows} (${columns}) select ${values}
     from (select s.*, ${image("s")} as jbackup_image, row_number() over (partition by ${image("s")}) as jbackup_nth from ${staging} s) s
     left join (select ${image("t")} as jbackup_image, count(*) as jbackup_many from ${live} t group by 1) l on l.jbackup_image = s.jbackup_image
    where s.jbackup_nth > coalesce(l.jbackup_many, 0)`;
};

/**
 * Compared as images, for json has no equality and 1.0 is not 1.00. Where those differ the text decides, which is all that
 * the backup holds: an array may be stored in two ways and be the same.
 */
export const differing = (
  table: MergeTable,
  key: Uniqueness,
  staging: string,
  rows: string,
  live: string,
): string => {
  const { shared, columns } = table;
  const own = columns.filter((column) => !shared.includes(column));
  const record = (alias: string): string => `row(${list(shared, alias)})`;
  const taken = [list(shared, "s"), list(own, "t"), "'update'"].filter((part) => part !== "").join(", ");
  return `insert into ${rows} (${list([...shared, ...own])}, jbackup_action) select ${taken}
     from ${staging} s join ${live} t on ${sameKey(key, "t", "s")}
    where ${record("s")}::record *<> ${record("t")}::record and ${record("s")}::text collate "C" <> ${record("t")}::text collate "C"`;
};
