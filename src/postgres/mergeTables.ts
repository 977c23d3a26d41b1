import { JBackupError } from "../domain/errors.js";
import { nearest } from "../domain/similar.js";
import type { Session } from "./connection.js";
import { qualified, shownTable, type TableName } from "./facts.js";

export interface ColumnFacts {
  name: string;
  type: string;
  isRequired: boolean;
  isGenerated: boolean;
}

export interface MergeTable extends TableName {
  oid: string;
  shown: string;
  /** As FROM and INSERT name it: a partitioned table with all its partitions, an ordinary one without its heirs. */
  from: string;
  columns: ColumnFacts[];
  /** Columns that tell rows apart; empty when nothing does. */
  key: string[];
  /** Other unique constraints over plain columns. */
  uniques: { name: string; columns: string[] }[];
}

export interface ForeignKey {
  name: string;
  table: string;
  tableFrom: string;
  columns: string[];
  refersTo: string;
  refersFrom: string;
  refersColumns: string[];
  isDeferrable: boolean;
}

const TABLES = `
  select c.oid::text as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
     and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
     and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
   order by 2, 3`;

interface FoundTable extends TableName {
  oid: string;
  kind: string;
}

const listTables = (session: Session): Promise<FoundTable[]> =>
  session.rows<{ oid: string; schema: string; name: string; kind: string }>(TABLES);

const fromOf = (table: FoundTable): string =>
  table.kind === "p" ? qualified(table) : `only ${qualified(table)}`;

async function columnsOf(session: Session, oid: string): Promise<ColumnFacts[]> {
  const rows = await session.rows<{ name: string; type: string; required: string; generated: string }>(
    `select attname as name, format_type(atttypid, atttypmod) as type, (attgenerated <> '')::text as generated,
            (attnotnull and not atthasdef and attidentity = '')::text as required
       from pg_attribute where attrelid = $1::oid and attnum > 0 and not attisdropped order by attnum`,
    [oid],
  );
  return rows.map(({ name, type, required, generated }) => ({
    name,
    type,
    isRequired: required === "true",
    isGenerated: generated === "true",
  }));
}

async function uniquesOf(session: Session, oid: string) {
  const rows = await session.rows<{ name: string; columns: string; primary: string; usable: string }>(
    `select i.indexrelid::regclass::text as name, i.indisprimary::text as primary,
            (select json_agg(a.attname order by k.n)::text from unnest(i.indkey::int2[]) with ordinality k(attnum, n)
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum where k.n <= i.indnkeyatts) as columns,
            (i.indimmediate and (select bool_and(a.attnotnull) from unnest(i.indkey::int2[]) with ordinality k(attnum, n)
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum where k.n <= i.indnkeyatts))::text as usable
       from pg_index i
      where i.indrelid = $1::oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
      order by i.indisprimary desc, i.indnkeyatts, 1`,
    [oid],
  );
  return rows.map(({ name, columns, primary, usable }) => ({
    name,
    columns: JSON.parse(columns) as string[],
    isPrimary: primary === "true",
    isUsable: usable === "true",
  }));
}

/** The tables named by the user, or all of them. */
function chosen(tables: FoundTable[], wanted: string[]): FoundTable[] {
  if (wanted.length === 0) return tables;
  const namesOf = (table: FoundTable): string[] => [
    shownTable(table),
    `${table.schema}.${table.name}`,
    table.name,
  ];
  return wanted.flatMap((name) => {
    const matches = tables.filter((table) => namesOf(table).includes(name));
    if (matches.length > 0) return matches;
    const meant = nearest(name, tables.flatMap(namesOf));
    throw new JBackupError("usage", `the backup has no table "${name}"`, {
      hint: meant ? `did you mean ${meant}?` : "jbackup show BACKUP lists its tables",
    });
  });
}

/** Pairs every table of the backup with the live one; whatever would lose something is said, all of it at once. */
export async function pairTables(
  source: Session,
  target: Session,
  wanted: string[],
): Promise<{ from: string; table: MergeTable }[]> {
  const live = new Map((await listTables(target)).map((table) => [qualified(table), table]));
  const blockers: string[] = [];
  const pairs: { from: string; table: MergeTable }[] = [];
  for (const backed of chosen(await listTables(source), wanted)) {
    const found = live.get(qualified(backed));
    const shown = shownTable(backed);
    if (!found) {
      blockers.push(`the live database has no table ${shown}`);
      continue;
    }
    const theirs = await columnsOf(source, backed.oid);
    const ours = await columnsOf(target, found.oid);
    const uniques = await uniquesOf(target, found.oid);
    const columns = ours.filter(
      (column) => !column.isGenerated && theirs.some(({ name }) => name === column.name),
    );
    blockers.push(...(await drift(source, backed, shown, theirs, ours)));
    const key =
      (uniques.find(({ isPrimary }) => isPrimary) ?? uniques.find(({ isUsable }) => isUsable))?.columns ?? [];
    const isKey = (names: string[]): boolean =>
      names.length === key.length && names.every((name) => key.includes(name));
    pairs.push({
      from: fromOf(backed),
      table: {
        ...found,
        shown,
        from: fromOf(found),
        columns,
        key,
        uniques: uniques.filter((unique) => !isKey(unique.columns)),
      },
    });
  }
  if (blockers.length === 0) return pairs;
  throw new JBackupError(
    "target_refused",
    `the backup does not fit the live database: ${blockers.join("; ")}`,
    {
      hint: "name the tables to merge with --tables, or restore beside with --into-db",
      details: { blockers },
    },
  );
}

async function drift(
  source: Session,
  backed: FoundTable,
  shown: string,
  theirs: ColumnFacts[],
  ours: ColumnFacts[],
): Promise<string[]> {
  const found: string[] = [];
  for (const column of theirs.filter(({ isGenerated }) => !isGenerated)) {
    const live = ours.find(({ name }) => name === column.name);
    if (live === undefined) {
      const [held] = await source.rows(
        `select 1 as held from ${fromOf(backed)} where "${column.name.replaceAll('"', '""')}" is not null limit 1`,
      );
      if (held) found.push(`${shown}.${column.name} holds values, but the live table has no such column`);
    } else if (!live.isGenerated && live.type !== column.type)
      found.push(`${shown}.${column.name} is ${column.type} in the backup and ${live.type} now`);
  }
  for (const live of ours)
    if (live.isRequired && !live.isGenerated && !theirs.some(({ name }) => name === live.name))
      found.push(
        `${shown}.${live.name} must not be null and has no default, but the backup does not know it`,
      );
  return found;
}

/** Every foreign key that starts or ends at one of the tables. */
export async function foreignKeys(target: Session, oids: string[]): Promise<ForeignKey[]> {
  const rows = await target.rows<Record<string, string>>(
    `select k.conname as name, k.conrelid::text as table, k.confrelid::text as refers_to, k.condeferrable::text as deferrable,
            format('%I.%I', fn.nspname, f.relname) as table_from, format('%I.%I', tn.nspname, t.relname) as refers_from,
            (select json_agg(a.attname order by c.n)::text from unnest(k.conkey) with ordinality c(attnum, n)
               join pg_attribute a on a.attrelid = k.conrelid and a.attnum = c.attnum) as columns,
            (select json_agg(a.attname order by c.n)::text from unnest(k.confkey) with ordinality c(attnum, n)
               join pg_attribute a on a.attrelid = k.confrelid and a.attnum = c.attnum) as refers_columns
       from pg_constraint k
       join pg_class f on f.oid = k.conrelid join pg_namespace fn on fn.oid = f.relnamespace
       join pg_class t on t.oid = k.confrelid join pg_namespace tn on tn.oid = t.relnamespace
      where k.contype = 'f' and k.conparentid = 0 and (k.conrelid::text = any($1) or k.confrelid::text = any($1))
      order by 1`,
    [oids],
  );
  return rows.map((row) => ({
    name: row.name ?? "",
    table: row.table ?? "",
    tableFrom: row.table_from ?? "",
    columns: JSON.parse(row.columns ?? "[]") as string[],
    refersTo: row.refers_to ?? "",
    refersFrom: row.refers_from ?? "",
    refersColumns: JSON.parse(row.refers_columns ?? "[]") as string[],
    isDeferrable: row.deferrable === "true",
  }));
}

/** Parents before children. Tables on a cycle whose constraints cannot wait until the end are refused. */
export function inOrder<Pair extends { table: MergeTable }>(
  pairs: Pair[],
  keys: ForeignKey[],
  mayIgnore: boolean,
): Pair[] {
  const left = new Map(pairs.map((pair) => [pair.table.oid, pair]));
  const ordered: Pair[] = [];
  const blocking = keys.filter(
    ({ table, refersTo, isDeferrable }) => table !== refersTo && !(isDeferrable || mayIgnore),
  );
  while (left.size > 0) {
    const free = [...left.values()].filter(
      ({ table }) => !blocking.some((key) => key.table === table.oid && left.has(key.refersTo)),
    );
    if (free.length === 0) {
      const names = [...left.values()].map(({ table }) => table.shown).join(", ");
      throw new JBackupError(
        "target_refused",
        `the foreign keys of ${names} form a circle that cannot be checked at the end`,
        {
          hint: "run the restore as a superuser, or restore beside with --into-db",
        },
      );
    }
    for (const pair of free) {
      ordered.push(pair);
      left.delete(pair.table.oid);
    }
  }
  return ordered;
}
