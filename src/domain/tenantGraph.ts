import { nearest } from "./similar.js";

/** What a table is to tenants; every table is exactly one of these. */
export type TableClass =
  | "root" // the table of tenants
  | "direct" // a column names the tenant
  | "child" // owned through a foreign key that is never null
  | "shared" // referred to by many tenants
  | "transient" // queues, sessions, tokens: a restore would revive them
  | "ignored" // not a tenant's, by decision
  | "ambiguous" // somebody's, but nobody can say whose
  | "unknown"; // nobody has decided yet

/** A foreign key; partitions stand for themselves, their roots for all of them. */
export interface Reference {
  name: string;
  child: string;
  parent: string;
  pairs: { child: string; parent: string; operator: string; isNullable: boolean }[];
  onDelete: "no action" | "restrict" | "cascade" | "set null" | "set default";
}

export interface GraphTable {
  oid: string;
  schema: string;
  name: string;
  /** As people write it, quoted only where it must be. */
  shown: string;
  columns: { name: string }[];
  /** The columns of the primary key, or of another key that is never null. */
  keyColumns: string[];
  /** Columns that policies bind to the application's setting. */
  policyColumns: string[];
}

/** What the configuration decides. Tables by any of their names. */
export interface TenantRules {
  table: string;
  idColumn: string;
  column: string;
  exclude: string[];
  shared: string[];
  transient: string[];
  /** For tables that several things may own: a column that names the tenant, or the foreign key that leads to it. */
  owners: Record<string, string>;
}

export type Ownership<Key extends Reference = Reference> =
  | { kind: "column"; column: string }
  | { kind: "reference"; reference: Key; parent: string };

export interface Classified<Table extends GraphTable = GraphTable, Key extends Reference = Reference> {
  table: Table;
  class: TableClass;
  /** How a row's tenant is found: for root, direct and child. */
  owner: Ownership<Key> | null;
  /** Other ways to an owner, which must agree with the chosen one in every row. */
  alternatives: Key[];
  /** Why it is what it is, for people. */
  why: string;
}

export interface TenantGraph<Table extends GraphTable = GraphTable, Key extends Reference = Reference> {
  root: Table;
  tables: Classified<Table, Key>[];
  references: Key[];
  /** Names in the configuration that no table has. */
  unmatched: { name: string; meant: string | null }[];
}

const OWNED: TableClass[] = ["root", "direct", "child"];
export const isOwned = ({ class: is }: Pick<Classified, "class">): boolean => OWNED.includes(is);

/** What stops a backup of tenants: nobody may guess whose rows these are. */
export const undecided = <T extends GraphTable, K extends Reference>(
  graph: TenantGraph<T, K>,
): Classified<T, K>[] => graph.tables.filter(({ class: is }) => is === "unknown" || is === "ambiguous");

/** The books that migration tools keep of themselves. */
const BOOKKEEPING =
  /^(schema_migrations|ar_internal_metadata|knex_migrations(_lock)?|flyway_schema_history|_prisma_migrations|alembic_version|django_migrations|migrations|typeorm_metadata|__EFMigrationsHistory|databasechangelog(lock)?|goose_db_version|_sqlx_migrations|__drizzle_migrations|kysely_migration(_lock)?|pgmigrations|schema_version)$/i;

const namesOf = ({ schema, name, shown }: GraphTable): string[] => [shown, `${schema}.${name}`, name];

/** Whether a name in the configuration means this table. */
export const matches = (table: GraphTable, wanted: string): boolean => namesOf(table).includes(wanted);

/** Gives every table its class, or null when there is no such root. */
export function classifyTables<Table extends GraphTable, Key extends Reference>(
  tables: Table[],
  references: Key[],
  rules: TenantRules,
): TenantGraph<Table, Key> | null {
  const root = tables.find((table) => matches(table, rules.table));
  if (root === undefined) return null;
  const found = new Map<string, Classified<Table, Key>>();
  const settle = (
    table: Table,
    is: TableClass,
    why: string,
    owner: Ownership<Key> | null = null,
    alternatives: Key[] = [],
  ): void => {
    found.set(table.oid, { table, class: is, owner, alternatives, why });
  };
  const named = (list: string[], table: Table): boolean => list.some((name) => matches(table, name));

  settle(root, "root", "named in tenants.table", { kind: "column", column: rules.idColumn });
  for (const table of tables) {
    if (table === root) continue;
    if (named(rules.exclude, table)) settle(table, "ignored", "named in tenants.exclude");
    else if (named(rules.transient, table)) settle(table, "transient", "named in tenants.transient");
    else if (named(rules.shared, table)) settle(table, "shared", "named in tenants.shared");
  }
  const open = (): Table[] => tables.filter(({ oid }) => !found.has(oid));
  for (const table of open()) {
    const direct = directColumn(table, references, rules, root);
    if (direct !== null) settle(table, "direct", direct.why, { kind: "column", column: direct.column });
  }
  settleChildren(open, references, rules, found, settle);
  settleShared(open, references, found, settle);
  const settings = [
    rules.table,
    ...rules.exclude,
    ...rules.shared,
    ...rules.transient,
    ...Object.keys(rules.owners),
  ];
  return {
    root,
    tables: tables.map(({ oid }) => found.get(oid) as Classified<Table, Key>),
    references,
    unmatched: settings
      .filter((name) => !tables.some((table) => matches(table, name)))
      .map((name) => ({ name, meant: nearest(name, tables.flatMap(namesOf)) ?? null })),
  };
}

const ownerNamed = (table: GraphTable, rules: TenantRules): string | undefined =>
  Object.entries(rules.owners).find(([name]) => matches(table, name))?.[1];

const hasColumn = (table: GraphTable, column: string): boolean =>
  table.columns.some(({ name }) => name === column);

/** The column that names the tenant: by decision, by its name, by the policies, or by the only foreign key to the root. */
function directColumn(
  table: GraphTable,
  references: Reference[],
  rules: TenantRules,
  root: GraphTable,
): { column: string; why: string } | null {
  const decided = ownerNamed(table, rules);
  if (decided !== undefined)
    return hasColumn(table, decided) ? { column: decided, why: "named in tenants.owners" } : null;
  if (hasColumn(table, rules.column)) return { column: rules.column, why: `has the column ${rules.column}` };
  const [bound, second] = table.policyColumns;
  if (bound !== undefined && second === undefined)
    return { column: bound, why: `its policies look at the column ${bound}` };
  const toRoot = references.filter(
    ({ child, parent, pairs }) =>
      child === table.oid &&
      parent === root.oid &&
      pairs.length === 1 &&
      pairs[0]?.parent === rules.idColumn &&
      !pairs[0].isNullable,
  );
  const column = toRoot[0]?.pairs[0]?.child;
  return toRoot.length === 1 && column !== undefined
    ? { column, why: `${toRoot[0]?.name} refers to the tenant` }
    : null;
}

const isNeverNull = ({ pairs }: Reference): boolean => pairs.every(({ isNullable }) => !isNullable);

type Settle<Table extends GraphTable, Key extends Reference> = (
  table: Table,
  is: TableClass,
  why: string,
  owner?: Ownership<Key> | null,
  alternatives?: Key[],
) => void;

/** Foreign keys that are never null lead to an owner, one table after another until nothing is found any more. */
function settleChildren<Table extends GraphTable, Key extends Reference>(
  open: () => Table[],
  references: Key[],
  rules: TenantRules,
  found: Map<string, Classified<Table, Key>>,
  settle: Settle<Table, Key>,
): void {
  for (;;) {
    const settled = [];
    for (const table of open()) {
      const leading = references.filter(({ child, parent }) => {
        const owner = found.get(parent);
        return child === table.oid && parent !== child && owner !== undefined && isOwned(owner);
      });
      const decided = ownerNamed(table, rules);
      const ways = leading.filter((key) => (decided === undefined ? isNeverNull(key) : key.name === decided));
      const [chosen, ...others] = ways.toSorted((a, b) => strength(b, table) - strength(a, table));
      if (chosen !== undefined) settled.push({ table, chosen, others });
    }
    // all of one round at once: what is nearest to a tenant decides, not the order of the tables
    for (const { table, chosen, others } of settled)
      settle(
        table,
        "child",
        `${chosen.name} leads to ${found.get(chosen.parent)?.table.shown}`,
        { kind: "reference", reference: chosen, parent: chosen.parent },
        others,
      );
    if (settled.length === 0) break;
  }
  for (const table of open()) {
    const leading = references.filter(({ child, parent }) => {
      const owner = found.get(parent);
      return child === table.oid && parent !== child && owner !== undefined && isOwned(owner);
    });
    if (leading.length === 0) continue;
    const ways = leading.map(({ name, parent }) => `${name} to ${found.get(parent)?.table.shown}`);
    settle(table, "ambiguous", `its rows need no owner: ${ways.join(", ")} may be null`);
  }
}

/** How surely a foreign key says whose a row is: what is deleted with its parent or named by it is a part of it. */
const strength = ({ onDelete, pairs }: Reference, { keyColumns }: GraphTable): number =>
  (pairs.some(({ child }) => keyColumns.includes(child)) ? 4 : 0) +
  (onDelete === "cascade" ? 2 : 0) +
  (pairs.length > 1 ? 1 : 0);

function settleShared<Table extends GraphTable, Key extends Reference>(
  open: () => Table[],
  references: Key[],
  found: Map<string, Classified<Table, Key>>,
  settle: Settle<Table, Key>,
): void {
  for (;;) {
    const shared = open().flatMap((table) => {
      const user = references.find(({ child, parent }) => {
        const by = found.get(child);
        return parent === table.oid && by !== undefined && (isOwned(by) || by.class === "shared");
      });
      return user === undefined ? [] : [{ table, by: found.get(user.child)?.table.shown }];
    });
    for (const { table, by } of shared) settle(table, "shared", `${by} refers to it`);
    if (shared.length === 0) break;
  }
  for (const table of open()) {
    if (BOOKKEEPING.test(table.name)) settle(table, "ignored", "a migration tool keeps its books there");
    else settle(table, "unknown", "nothing leads from it to a tenant, and no tenant's row refers to it");
  }
}
