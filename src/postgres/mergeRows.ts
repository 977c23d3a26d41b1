import { pipeline } from "node:stream/promises";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import type { TableRestore } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import { quoteName, type Session, translate } from "./connection.js";
import type { MergeTable } from "./mergeTables.js";

export type ConflictPolicy = "skip" | "overwrite" | "fail";

const list = (names: string[], prefix = ""): string =>
  names.map((name) => `${prefix}${quoteName(name)}`).join(", ");
const equal = (names: string[], left: string, right: string): string =>
  names.map((name) => `${left}.${quoteName(name)} = ${right}.${quoteName(name)}`).join(" and ");

async function count(session: Session, sql: string): Promise<number> {
  const [row] = await session.rows<{ many: string }>(`select count(*)::text as many from ${sql}`);
  return Number(row?.many ?? 0);
}

async function changed(session: Session, sql: string): Promise<number> {
  try {
    return (await session.client.query(sql)).rowCount ?? 0;
  } catch (error) {
    throw translate(error, session.address);
  }
}

/** The table's rows as text, from the backup's database into a temporary table of the live one; memory holds a chunk at a time. */
async function stage(
  source: Session,
  from: string,
  target: Session,
  table: MergeTable,
  staging: string,
): Promise<void> {
  const columns = table.columns.map(({ name }) => name);
  await target.run(
    `create temporary table ${staging} on commit drop as select ${list(columns)} from ${table.from} with no data`,
  );
  const reading = source.client.query(copyTo(`copy (select ${list(columns)} from ${from}) to stdout`));
  const writing = target.client.query(copyFrom(`copy ${staging} (${list(columns)}) from stdin`));
  try {
    await pipeline(reading, writing);
  } catch (error) {
    throw translate(error, target.address);
  }
  if (table.key.length > 0) await target.run(`create index on ${staging} (${list(table.key)})`);
  await target.run(`analyze ${staging}`);
}

const conflict = (message: string): JBackupError =>
  new JBackupError("conflict", message, {
    hint: "nothing was changed; choose with --on-conflict skip or overwrite, or look at the rows in a copy with --into-db",
  });

interface Merged {
  result: TableRestore;
  leftOut: string[];
}

/** Brings one table's rows in. Nothing is left to an untargeted ON CONFLICT, which loses rows without a word. */
export async function mergeTable(
  source: Session,
  from: string,
  target: Session,
  table: MergeTable,
  policy: ConflictPolicy,
  staging: string,
): Promise<Merged> {
  const nothing = { table: table.shown, inserted: 0, updated: 0, deleted: 0, unchanged: 0 };
  if (table.columns.length === 0) return { result: nothing, leftOut: [] };
  await stage(source, from, target, table, staging);
  const total = await count(target, staging);
  if (table.key.length === 0) {
    const inserted = await insertMultiset(target, table, staging);
    return { result: { ...nothing, inserted, unchanged: total - inserted }, leftOut: [] };
  }
  const differing = await differingRows(target, table, staging);
  if (differing > 0 && policy === "fail")
    throw conflict(`${table.shown} has ${differing} rows that differ from the backup`);
  const updated = differing > 0 && policy === "overwrite" ? await overwrite(target, table, staging) : 0;
  const left = await leaveOutCollisions(target, table, staging, policy);
  const columns = table.columns.map(({ name }) => name);
  const inserted = await changed(
    target,
    `insert into ${table.from.replace(/^only /, "")} (${list(columns)}) overriding system value
     select ${list(columns, "s.")} from ${staging} s where not exists (select from ${table.from} t where ${equal(table.key, "t", "s")})`,
  );
  const unchanged = total - inserted - updated - left.rows;
  return { result: { ...nothing, inserted, updated, unchanged }, leftOut: left.reasons };
}

const others = (table: MergeTable): string[] =>
  table.columns.map(({ name }) => name).filter((name) => !table.key.includes(name));

/** A row as one value; row(...) itself would be compared column by column. */
const record = (columns: string[], alias: string): string =>
  `(select jbackup_record from (select ${list(columns, `${alias}.`)}) jbackup_record)`;

/** Compared as images: json has no equality, and 1.0 is not 1.00. */
const differs = (table: MergeTable): string => {
  const columns = others(table);
  return columns.length === 0 ? "false" : `${record(columns, "s")} *<> ${record(columns, "t")}`;
};

const differingRows = (target: Session, table: MergeTable, staging: string): Promise<number> =>
  count(target, `${staging} s join ${table.from} t on ${equal(table.key, "t", "s")} where ${differs(table)}`);

async function overwrite(target: Session, table: MergeTable, staging: string): Promise<number> {
  const settings = others(table)
    .map((name) => `${quoteName(name)} = s.${quoteName(name)}`)
    .join(", ");
  try {
    return await changed(
      target,
      `update ${table.from} t set ${settings} from ${staging} s where ${equal(table.key, "t", "s")} and ${differs(table)}`,
    );
  } catch (error) {
    throw collisionOr(error, table);
  }
}

function collisionOr(error: unknown, table: MergeTable): unknown {
  const cause = (error as Error).cause as { code?: string; constraint?: string } | undefined;
  if (cause?.code !== "23505" && cause?.code !== "23P01") return error;
  return conflict(
    `a row of ${table.shown} holds a value of ${cause.constraint} that the backup gives to another row`,
  );
}

/** A missing row whose other unique values belong to another row now. */
async function leaveOutCollisions(
  target: Session,
  table: MergeTable,
  staging: string,
  policy: ConflictPolicy,
): Promise<{ rows: number; reasons: string[] }> {
  const reasons: string[] = [];
  let rows = 0;
  for (const unique of table.uniques) {
    if (!unique.columns.every((name) => table.columns.some((column) => column.name === name))) continue;
    const collides = `not exists (select from ${table.from} t where ${equal(table.key, "t", "s")})
       and exists (select from ${table.from} t where ${equal(unique.columns, "t", "s")})`;
    const found = await count(target, `${staging} s where ${collides}`);
    if (found === 0) continue;
    if (policy !== "skip")
      throw conflict(
        `${found} rows of ${table.shown} hold values of ${unique.name} that other rows have now`,
      );
    rows += await changed(target, `delete from ${staging} s where ${collides}`);
    reasons.push(
      `${found} rows of ${table.shown} were left out: other rows have their values of ${unique.name} now`,
    );
  }
  return { rows, reasons };
}

/** Without a key rows are counted: as many equal ones as the backup has, none fewer than there are. */
async function insertMultiset(target: Session, table: MergeTable, staging: string): Promise<number> {
  const columns = table.columns.map(({ name }) => name);
  const image = (alias: string): string => `row(${list(columns, `${alias}.`)})::text`;
  return changed(
    target,
    `insert into ${table.from.replace(/^only /, "")} (${list(columns)}) overriding system value
     select ${list(columns, "s.")}
       from (select s.*, ${image("s")} as jbackup_image, row_number() over (partition by ${image("s")}) as jbackup_nth from ${staging} s) s
       left join (select ${image("t")} as image, count(*) as many from ${table.from} t group by 1) l on l.image = s.jbackup_image
      where s.jbackup_nth > coalesce(l.many, 0)`,
  );
}
