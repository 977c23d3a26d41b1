import { quoteName, type Session } from "./connection.js";
import { qualified, shownTable, type TableName } from "./facts.js";

export interface FoundTable extends TableName {
  oid: string;
  shown: string;
  /** As FROM and UPDATE name it: a partitioned table with all its partitions, an ordinary one without its heirs. */
  from: string;
  /** The partitioned table that a partition belongs to. */
  root: string | null;
}

export interface Column {
  name: string;
  type: string;
  /** Refuses null, whatever else fills it. */
  isNotNull: boolean;
  hasDefault: boolean;
  identity: "" | "always" | "default";
  isGenerated: boolean;
}

/** A unique index or exclusion constraint: two rows collide when every part of one matches that of the other. */
export interface Uniqueness {
  name: string;
  parts: { expression: string; operator: string; column: string | null; isNotNull: boolean }[];
  /** Of a partial index: only rows for which this holds take part. */
  predicate: string | null;
  /** How CREATE INDEX on a table of the same columns goes on: USING ... */
  definition: string;
  areNullsEqual: boolean;
  isDeferrable: boolean;
  isExclusion: boolean;
  isPrimary: boolean;
  isReplicaIdentity: boolean;
}

export interface ForeignKey {
  name: string;
  /** Roots of partitioned tables stand for their partitions here, and only here. */
  child: string;
  parent: string;
  isOnRoots: boolean;
  childShown: string;
  parentShown: string;
  childFrom: string;
  parentFrom: string;
  pairs: { child: string; parent: string; operator: string; isNullable: boolean }[];
  isDeferrable: boolean;
  isFull: boolean;
  isTemporal: boolean;
}

/** Readable: quotes only where the name needs them. */
export const shownName = (name: string): string =>
  /^[a-z_][a-z0-9_$]*$/.test(name) ? name : quoteName(name);

const isTrue = (text: string | null | undefined): boolean => text === "true";

/** Ordinary and partitioned tables of the user's, partitions too; members of extensions belong to those. */
export async function listTables(session: Session): Promise<FoundTable[]> {
  const rows = await session.rows<{ oid: string; schema: string; name: string; kind: string; root: string }>(
    `select c.oid::text as oid, n.nspname as schema, c.relname as name, c.relkind::text as kind,
            case when c.relispartition then pg_partition_root(c.oid)::regclass::text end as root
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p') and c.relpersistence <> 't'
        and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
        and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
      order by 2, 3`,
  );
  return rows.map((row) => ({
    ...row,
    shown: shownTable(row),
    from: row.kind === "p" ? qualified(row) : `only ${qualified(row)}`,
  }));
}

export async function columnsOf(session: Session, oids: string[]): Promise<Map<string, Column[]>> {
  const rows = await session.rows<Record<string, string>>(
    `select attrelid::text as oid, attname as name, format_type(atttypid, atttypmod) as type, attnotnull::text as not_null,
            atthasdef::text as has_default, attidentity::text as identity, (attgenerated <> '')::text as generated
       from pg_attribute where attrelid = any($1::oid[]) and attnum > 0 and not attisdropped order by attrelid, attnum`,
    [oids],
  );
  const columns = rows.map((row) => ({
    oid: row.oid ?? "",
    name: row.name ?? "",
    type: row.type ?? "",
    isNotNull: isTrue(row.not_null),
    hasDefault: isTrue(row.has_default),
    identity: row.identity === "a" ? "always" : row.identity === "d" ? "default" : "",
    isGenerated: isTrue(row.generated),
  })) satisfies (Column & { oid: string })[];
  return Map.groupBy<string, Column & { oid: string }>(columns, ({ oid }) => oid);
}

/**
 * Operators are named with their schemas: with an empty search path, `=` between two citext would compare them as text.
 * Collations likewise, for those of an index may differ from those of its columns.
 */
export async function uniquenessOf(session: Session, oids: string[]): Promise<Map<string, Uniqueness[]>> {
  const rows = await session.rows<Record<string, string>>(
    `select i.indrelid::text as oid, coalesce(k.conname, x.relname) as name, i.indisprimary::text as is_primary,
            i.indisreplident::text as is_identity, coalesce(k.condeferrable, false)::text as deferrable,
            (k.conexclop is not null)::text as exclusion, pg_get_expr(i.indpred, i.indrelid) as predicate,
            coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') as nulls_equal,
            substr(d.text, strpos(d.text, i.indrelid::regclass || ' USING ') + length(i.indrelid::regclass::text)) as definition,
            (select json_agg(json_build_object('column', a.attname, 'isNotNull', coalesce(a.attnotnull, false),
                      'operator', format('operator(%I.%s)', os.nspname, o.oprname),
                      'expression', pg_get_indexdef(i.indexrelid, n, false) || case when c.oid is null then '' else format(' collate %I.%I', cs.nspname, c.collname) end) order by n)
               from generate_series(1, i.indnkeyatts) n
               left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[n - 1] and a.attnum > 0
               left join pg_collation c on c.oid = i.indcollation[n - 1] left join pg_namespace cs on cs.oid = c.collnamespace
               join pg_opclass oc on oc.oid = i.indclass[n - 1]
               join pg_operator o on o.oid = coalesce(k.conexclop[n], (select m.amopopr from pg_amop m
                      where m.amopfamily = oc.opcfamily and m.amoplefttype = oc.opcintype and m.amoprighttype = oc.opcintype and m.amopstrategy = 3))
               join pg_namespace os on os.oid = o.oprnamespace)::text as parts
       from pg_index i join pg_class x on x.oid = i.indexrelid cross join lateral pg_get_indexdef(i.indexrelid) d(text)
       left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
      where i.indrelid = any($1::oid[]) and (i.indisunique or i.indisexclusion) and i.indisready order by 2`,
    [oids],
  );
  const found = rows.map((row) => ({
    oid: row.oid ?? "",
    name: row.name ?? "",
    parts: JSON.parse(row.parts ?? "[]") as Uniqueness["parts"],
    predicate: row.predicate ?? null,
    definition: row.definition ?? "",
    areNullsEqual: isTrue(row.nulls_equal),
    isDeferrable: isTrue(row.deferrable),
    isExclusion: isTrue(row.exclusion),
    isPrimary: isTrue(row.is_primary),
    isReplicaIdentity: isTrue(row.is_identity),
  }));
  return Map.groupBy(found, ({ oid }) => oid);
}

/** Every foreign key that starts or ends at one of the tables or at a partition of one. */
export async function foreignKeysOf(session: Session, oids: string[]): Promise<ForeignKey[]> {
  const rows = await session.rows<Record<string, string>>(
    `select k.conname as name, ends.child::text as child, ends.parent::text as parent,
            (ends.child = k.conrelid and ends.parent = k.confrelid)::text as on_roots,
            k.conrelid::regclass::text as child_shown, k.confrelid::regclass::text as parent_shown,
            case c.relkind when 'p' then '' else 'only ' end || format('%I.%I', cn.nspname, c.relname) as child_from,
            case p.relkind when 'p' then '' else 'only ' end || format('%I.%I', pn.nspname, p.relname) as parent_from,
            k.condeferrable::text as deferrable, (k.confmatchtype = 'f')::text as is_full, coalesce(to_jsonb(k) ->> 'conperiod', 'false') as temporal,
            (select json_agg(json_build_object('child', ca.attname, 'parent', pa.attname, 'isNullable', not ca.attnotnull,
                      'operator', format('operator(%I.%s)', os.nspname, o.oprname)) order by n)
               from generate_subscripts(k.conkey, 1) n
               join pg_attribute ca on ca.attrelid = k.conrelid and ca.attnum = k.conkey[n]
               join pg_attribute pa on pa.attrelid = k.confrelid and pa.attnum = k.confkey[n]
               join pg_operator o on o.oid = k.conpfeqop[n] join pg_namespace os on os.oid = o.oprnamespace)::text as pairs
       from pg_constraint k
       cross join lateral (select coalesce(pg_partition_root(k.conrelid)::oid, k.conrelid) as child, coalesce(pg_partition_root(k.confrelid)::oid, k.confrelid) as parent) ends
       join pg_class c on c.oid = k.conrelid join pg_namespace cn on cn.oid = c.relnamespace
       join pg_class p on p.oid = k.confrelid join pg_namespace pn on pn.oid = p.relnamespace
      where k.contype = 'f' and k.conparentid = 0 and coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'
        and (ends.child = any($1::oid[]) or ends.parent = any($1::oid[]))
      order by 5, 1`,
    [oids],
  );
  return rows.map((row) => ({
    name: row.name ?? "",
    child: row.child ?? "",
    parent: row.parent ?? "",
    isOnRoots: isTrue(row.on_roots),
    childShown: row.child_shown ?? "",
    parentShown: row.parent_shown ?? "",
    childFrom: row.child_from ?? "",
    parentFrom: row.parent_from ?? "",
    pairs: JSON.parse(row.pairs ?? "[]") as ForeignKey["pairs"],
    isDeferrable: isTrue(row.deferrable),
    isFull: isTrue(row.is_full),
    isTemporal: isTrue(row.temporal),
  }));
}
