import { quoteName, quoteText, type Session } from "./connection.js";
import { qualified, type TableName } from "./facts.js";

interface Feeding extends TableName {
  table: string;
  column: string | null;
  increment: string;
  min: string;
  max: string;
}

/** Sequences owned by the tables' columns, and those that their defaults draw from; a cycling one has no furthest value. */
const FEEDING = `
  select n.nspname as schema, c.relname as name, format('%I.%I', tn.nspname, t.relname) as table,
         case when coalesce(nullif(ty.typbasetype, 0), ty.oid) in (20, 21, 23, 1700) then a.attname end as column,
         s.seqincrement::text as increment, s.seqmin::text as min, s.seqmax::text as max
    from pg_sequence s join pg_class c on c.oid = s.seqrelid join pg_namespace n on n.oid = c.relnamespace
    join (select d.objid as seq, d.refobjid as rel, d.refobjsubid as att from pg_depend d
           where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
          union
          select d.refobjid, ad.adrelid, ad.adnum from pg_depend d join pg_attrdef ad on ad.oid = d.objid
           where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass) used on used.seq = s.seqrelid
    join pg_class t on t.oid = used.rel join pg_namespace tn on tn.oid = t.relnamespace
    join pg_attribute a on a.attrelid = used.rel and a.attnum = used.att join pg_type ty on ty.oid = a.atttypid
   where used.rel = any($1::oid[]) and not s.seqcycle order by 1, 2, 3`;

/**
 * Sequences move past the highest value in their column and past where they stood in the backup, never back. This comes
 * last, for no rollback undoes it. Reading and moving is one statement: others draw numbers meanwhile.
 */
export async function moveSequences(source: Session | null, target: Session, oids: string[]): Promise<void> {
  for (const sequence of await target.rows<Record<keyof Feeding, string>>(FEEDING, [oids])) {
    const isUp = BigInt(sequence.increment) > 0n;
    const furthest = isUp ? "max" : "min";
    const backed = source === null ? null : await backedPosition(source, sequence);
    const found = backed === null ? [] : [backed];
    const held =
      sequence.column === null ? null : await heldValue(target, sequence, sequence.column, furthest);
    if (held !== null) found.push(held);
    const goal = found.reduce<bigint | null>(
      (best, value) => (best === null || (isUp ? value > best : value < best) ? value : best),
      null,
    );
    if (goal === null || goal < BigInt(sequence.min) || goal > BigInt(sequence.max)) continue;
    const isBehind = isUp ? "<" : ">";
    await target.rows(
      `select setval(${quoteText(qualified(sequence))}::regclass, ${goal}) from ${qualified(sequence)} where last_value ${isBehind} ${goal} or (last_value = ${goal} and not is_called)`,
    );
  }
}

/** The last number given out before the backup, by a sequence of this name. */
async function backedPosition(source: Session, sequence: TableName): Promise<bigint | null> {
  const [known] = await source.rows(
    "select 1 as known from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'S' and n.nspname = $1 and c.relname = $2",
    [sequence.schema, sequence.name],
  );
  if (!known) return null;
  const [row] = await source.rows<{ last: string | null }>(
    `select case when is_called then last_value end::text as last from ${qualified(sequence)}`,
  );
  return row?.last ? BigInt(row.last) : null;
}

async function heldValue(
  target: Session,
  { table, min, max }: Record<"table" | "min" | "max", string>,
  column: string,
  furthest: "min" | "max",
): Promise<bigint | null> {
  const value = quoteName(column);
  const [row] = await target.rows<{ held: string | null }>(
    `select floor(${furthest}(${value}))::bigint::text as held from ${table} where ${value} between ${BigInt(min)} and ${BigInt(max)}`,
  );
  return row?.held ? BigInt(row.held) : null;
}
