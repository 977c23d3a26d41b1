import type { Session } from "./connection.js";

/** What a type consists of, as text; of an enum the labels. */
interface Shape {
  type: string;
  kind: string;
  shape: string[];
}

/** Every type that the tables' columns are made of, through arrays, domains, composites and ranges. */
async function shapesOf(session: Session, oids: string[]): Promise<Map<string, Shape>> {
  const rows = await session.rows<{ type: string; kind: string; shape: string }>(
    `with recursive used(oid) as (
       select atttypid from pg_attribute where attrelid = any($1::oid[]) and attnum > 0 and not attisdropped
       union
       select part.oid from used join pg_type t on t.oid = used.oid
        cross join lateral (select t.typelem union all select t.typbasetype
                  union all select a.atttypid from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
                  union all select r.rngsubtype from pg_range r where t.oid::text in (r.rngtypid::text, to_jsonb(r) ->> 'rngmultitypid')) part(oid)
        where part.oid <> 0)
     select t.oid::regtype::text as type, t.typtype::text as kind,
            coalesce(case t.typtype
              when 'e' then (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid)
              when 'c' then (select json_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum)
                               from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped)
              when 'd' then json_build_array(format_type(t.typbasetype, t.typtypmod))
            end, '[]')::text as shape
       from used join pg_type t on t.oid = used.oid where t.typtype in ('e', 'c', 'd') order by 1`,
    [oids],
  );
  return new Map(
    rows.map(({ type, kind, shape }) => [type, { type, kind, shape: JSON.parse(shape) as string[] }]),
  );
}

/**
 * Types of the same name that mean something else now. A composite value is text in the order of its attributes:
 * swapped ones would be filled with each other's values without an error.
 */
export async function typeDrift(
  source: Session,
  sourceOids: string[],
  target: Session,
  targetOids: string[],
): Promise<string[]> {
  const live = await shapesOf(target, targetOids);
  const found: string[] = [];
  for (const { type, kind, shape } of (await shapesOf(source, sourceOids)).values()) {
    const now = live.get(type);
    if (now === undefined) continue; // told as a column of another type
    const missing = shape.filter((label) => !now.shape.includes(label));
    if (kind === "e" && now.kind === "e") {
      if (missing.length > 0)
        found.push(`the type ${type} has no ${missing.map((label) => `'${label}'`).join(", ")} any more`);
    } else if (kind !== now.kind || shape.join() !== now.shape.join())
      found.push(`the type ${type} is (${shape.join(", ")}) in the backup and (${now.shape.join(", ")}) now`);
  }
  return found;
}
