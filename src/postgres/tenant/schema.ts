import type { GraphTable, Reference } from "../../domain/tenantGraph.js";
import type { Session } from "../connection.js";
import {
  type Column,
  columnsOf,
  type ForeignKey,
  foreignKeysOf,
  listTables,
  type Uniqueness,
  uniquenessOf,
} from "../mergeCatalog.js";

/** A table as tenants need to know it: partitioned tables as a whole, their partitions not by themselves. */
export interface TenantTable extends GraphTable {
  /** As FROM names it. */
  from: string;
  columns: TenantColumn[];
  uniqueness: Uniqueness[];
  /** What tells rows apart; null when nothing does. */
  key: Uniqueness | null;
  isPartitioned: boolean;
  isUnlogged: boolean;
  /** Other tables inherit from it, as before partitions existed. */
  hasHeirs: boolean;
  hasRowSecurity: boolean;
  isRowSecurityForced: boolean;
  estimatedRows: number;
  bytes: number;
  /** The leading columns of its usable indexes. */
  indexed: string[][];
}

export interface TenantColumn extends Column {
  isCollatable: boolean;
}

export type TenantReference = Reference & ForeignKey;

export interface TenantSchema {
  tables: TenantTable[];
  references: TenantReference[];
}

/** All that decides whose rows are whose, from the catalogs alone. */
export async function readTenantSchema(session: Session): Promise<TenantSchema> {
  const roots = (await listTables(session)).filter(({ root }) => root === null);
  const oids = roots.map(({ oid }) => oid);
  const columns = await columnsOf(session, oids);
  const uniqueness = await uniquenessOf(session, oids);
  const facts = await tableFacts(session, oids);
  const collatable = await collatableColumns(session, oids);
  const policies = await policyColumns(session, oids);
  const indexes = await leadingColumns(session, oids);
  const tables = roots.map((table): TenantTable => {
    const { oid } = table;
    const key = bestKey(uniqueness.get(oid) ?? []);
    return {
      ...table,
      columns: (columns.get(oid) ?? []).map((column) => ({
        ...column,
        isCollatable: collatable.has(`${oid}.${column.name}`),
      })),
      uniqueness: uniqueness.get(oid) ?? [],
      key,
      keyColumns: key?.parts.map(({ column }) => column ?? "") ?? [],
      policyColumns: policies.get(oid) ?? [],
      indexed: indexes.get(oid) ?? [],
      ...(facts.get(oid) as TableNumbers),
    };
  });
  return { tables, references: await referencesOf(session, oids) };
}

/** Never null, on plain columns, of all rows: else it does not name a row. */
function bestKey(uniqueness: Uniqueness[]): Uniqueness | null {
  const names = uniqueness.filter(
    ({ predicate, isExclusion, parts }) =>
      predicate === null &&
      !isExclusion &&
      parts.every(({ column, isNotNull }) => column !== null && isNotNull),
  );
  const rank = ({ isPrimary, isReplicaIdentity, parts }: Uniqueness): number =>
    isPrimary ? 0 : isReplicaIdentity ? 1 : 1 + parts.length;
  return names.toSorted((a, b) => rank(a) - rank(b))[0] ?? null;
}

type TableNumbers = Pick<
  TenantTable,
  | "isPartitioned"
  | "isUnlogged"
  | "hasHeirs"
  | "hasRowSecurity"
  | "isRowSecurityForced"
  | "estimatedRows"
  | "bytes"
>;

/** Numbers of partitioned tables are those of their partitions together. */
async function tableFacts(session: Session, oids: string[]): Promise<Map<string, TableNumbers>> {
  const rows = await session.rows<Record<string, string>>(
    `select c.oid::text as oid, (c.relkind = 'p')::text as partitioned, (c.relpersistence = 'u')::text as unlogged,
            (c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid))::text as heirs,
            c.relrowsecurity::text as secured, c.relforcerowsecurity::text as forced,
            (select sum(greatest(l.reltuples, 0))::bigint::text from pg_class l where l.oid = c.oid and c.relkind = 'r'
                or c.relkind = 'p' and l.oid in (select relid from pg_partition_tree(c.oid) where isleaf)) as rows,
            (select sum(pg_table_size(l.oid))::text from pg_class l where l.oid = c.oid and c.relkind = 'r'
                or c.relkind = 'p' and l.oid in (select relid from pg_partition_tree(c.oid) where isleaf)) as bytes
       from pg_class c where c.oid = any($1::oid[])`,
    [oids],
  );
  return new Map(
    rows.map((row) => [
      row.oid ?? "",
      {
        isPartitioned: row.partitioned === "true",
        isUnlogged: row.unlogged === "true",
        hasHeirs: row.heirs === "true",
        hasRowSecurity: row.secured === "true",
        isRowSecurityForced: row.forced === "true",
        estimatedRows: Number(row.rows ?? 0),
        bytes: Number(row.bytes ?? 0),
      },
    ]),
  );
}

async function collatableColumns(session: Session, oids: string[]): Promise<Set<string>> {
  const rows = await session.rows<{ oid: string; name: string }>(
    "select attrelid::text as oid, attname as name from pg_attribute where attrelid = any($1::oid[]) and attnum > 0 and attcollation <> 0",
    [oids],
  );
  return new Set(rows.map(({ oid, name }) => `${oid}.${name}`));
}

/** Columns that the policies of a table look at, when a setting takes part: pg_depend knows them, no text is parsed for them. */
async function policyColumns(session: Session, oids: string[]): Promise<Map<string, string[]>> {
  const rows = await session.rows<{ oid: string; name: string }>(
    `select distinct p.polrelid::text as oid, a.attname as name
       from pg_policy p
       join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_class'::regclass
                       and d.refobjid = p.polrelid and d.refobjsubid > 0
       join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where p.polrelid = any($1::oid[])
        and coalesce(pg_get_expr(p.polqual, p.polrelid), '') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') ~ 'current_setting'
      order by 1, 2`,
    [oids],
  );
  return new Map(
    [...Map.groupBy(rows, ({ oid }) => oid)].map(([oid, found]) => [oid, found.map(({ name }) => name)]),
  );
}

async function leadingColumns(session: Session, oids: string[]): Promise<Map<string, string[][]>> {
  const rows = await session.rows<{ oid: string; names: string }>(
    `select i.indrelid::text as oid, (select json_agg(a.attname order by n)
              from generate_series(0, i.indnkeyatts - 1) n join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[n])::text as names
       from pg_index i where i.indrelid = any($1::oid[]) and i.indisvalid and i.indpred is null and 0 <> all(i.indkey::int2[])`,
    [oids],
  );
  return new Map(
    [...Map.groupBy(rows, ({ oid }) => oid)].map(([oid, found]) => [
      oid,
      found.map(({ names }) => JSON.parse(names) as string[]),
    ]),
  );
}

const ACTIONS = {
  a: "no action",
  r: "restrict",
  c: "cascade",
  n: "set null",
  d: "set default",
} as const;

async function referencesOf(session: Session, oids: string[]): Promise<TenantReference[]> {
  const keys = await foreignKeysOf(session, oids);
  const actions = await session.rows<{ name: string; child: string; action: keyof typeof ACTIONS }>(
    `select conname as name, conrelid::text as child, confdeltype::text as action from pg_constraint where contype = 'f'`,
  );
  const known = new Map(actions.map(({ name, child, action }) => [`${child}.${name}`, ACTIONS[action]]));
  return keys
    .filter(({ isOnRoots }) => isOnRoots)
    .map((key) => ({ ...key, onDelete: known.get(`${key.child}.${key.name}`) ?? "no action" }));
}
