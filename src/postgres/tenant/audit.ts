import { isOwned } from "../../domain/tenantGraph.js";
import type { Session } from "../connection.js";
import { count, refersSomewhere, refersTo, rowsOf, verb } from "../mergeSql.js";
import { type Graph, type OwnedTable, ownerPath } from "./ownership.js";
import { disagreements } from "./readTenants.js";

export interface Finding {
  severity: "error" | "warning" | "info";
  kind: string;
  message: string;
}

export type Findings = Map<string, Finding[]>;

/** Everything about the tables that may surprise whoever backs up or brings back a tenant. */
export async function auditTenants(
  session: Session,
  graph: Graph,
  setting: string | undefined,
): Promise<Findings> {
  const found: Findings = new Map();
  const add = (oid: string, severity: Finding["severity"], kind: string, message: string): void => {
    found.set(oid, [...(found.get(oid) ?? []), { severity, kind, message }]);
  };
  for (const table of graph.tables) lookAtClass(table, add);
  for (const table of graph.tables.filter(isOwned)) {
    lookAtShape(graph, table, add);
    for (const one of await disagreements(session, graph, table, "all"))
      add(
        table.table.oid,
        "error",
        "disputed",
        `${rowsOf(one.rows, one.table)} ${verb(one.rows, "belongs", "belong")} to one tenant by ${one.chosen} and to another by ${one.other}`,
      );
    await countNobodys(session, graph, table, add);
  }
  await crossReferences(session, graph, add);
  actionsIntoTenants(graph, add);
  await policies(session, graph, setting, add);
  await triggersAndColumns(session, graph, add);
  await notTables(session, graph, add);
  return found;
}

type Add = (oid: string, severity: Finding["severity"], kind: string, message: string) => void;

function lookAtClass({ table, class: is, why }: OwnedTable, add: Add): void {
  if (is === "unknown" || is === "ambiguous")
    add(table.oid, "error", is, `${why}: decide with tenants.owners, shared, transient or exclude`);
}

function lookAtShape(graph: Graph, owned: OwnedTable, add: Add): void {
  const { table } = owned;
  const info = (kind: string, message: string): void => add(table.oid, "info", kind, message);
  if (table.keyColumns.length === 0)
    add(table.oid, "warning", "no_key", "no key tells its rows apart: they are compared as wholes, slowly");
  if (table.isUnlogged) add(table.oid, "warning", "unlogged", "unlogged: a crash of the server empties it");
  if (table.hasHeirs)
    add(
      table.oid,
      "warning",
      "inheritance",
      "other tables inherit from it: their rows are looked at as their own tables'",
    );
  if (table.isPartitioned) info("partitioned", "read and written as a whole, partitions included");
  for (const column of table.columns) {
    if (column.identity === "always")
      info("identity", `${column.name} is GENERATED ALWAYS: restored as it was`);
    if (column.isGenerated) info("generated", `${column.name} is computed, and not stored in backups`);
    if (/^(oid|reg[a-z]+|lo)$/.test(column.type))
      add(
        table.oid,
        "warning",
        "oid",
        `${column.name} is ${column.type}: what it points to is not part of a tenant's backup`,
      );
  }
  const wanted =
    owned.owner?.kind === "column"
      ? [owned.owner.column]
      : owned.owner?.reference.pairs.map(({ child }) => child);
  if (
    wanted !== undefined &&
    owned.class !== "root" &&
    !isIndexed(table.indexed, wanted) &&
    table.estimatedRows > 10_000
  )
    add(
      table.oid,
      "warning",
      "no_index",
      `no index begins with ${wanted.join(", ")}: every tenant costs a scan of ${Math.round(table.estimatedRows)} rows`,
    );
  for (const key of graph.references.filter(
    ({ child, parent, isDeferrable }) => child === table.oid && parent === table.oid && !isDeferrable,
  ))
    info("self_reference", `${key.name} refers to the same table and is checked at once`);
  for (const key of graph.references.filter(({ child, isDeferrable }) => child === table.oid && isDeferrable))
    info("deferrable", `${key.name} is deferrable: a restore checks it at its end`);
}

const isIndexed = (indexed: string[][], wanted: string[]): boolean =>
  indexed.some((columns) => wanted.every((name) => columns.slice(0, wanted.length).includes(name)));

/** Rows that no tenant owns are in no tenant's backup. */
async function countNobodys(session: Session, graph: Graph, owned: OwnedTable, add: Add): Promise<void> {
  const { from, owner } = ownerPath(graph, owned, { join: "left join" });
  const many = await count(session, `${from} where ${owner} is null`);
  if (many > 0)
    add(
      owned.table.oid,
      "warning",
      "nobodys",
      `${rowsOf(many, owned.table.shown)} ${verb(many, "belongs", "belong")} to no tenant`,
    );
}

/** Foreign keys do not ask row-level security: rows whose parent is another tenant's do exist. */
async function crossReferences(session: Session, graph: Graph, add: Add): Promise<void> {
  const byOid = new Map(graph.tables.map((table) => [table.table.oid, table]));
  for (const key of graph.references) {
    const child = byOid.get(key.child);
    const parent = byOid.get(key.parent);
    if (!child || !parent || !isOwned(child) || !isOwned(parent) || child.class === "root") continue;
    const isOwner = child.owner?.kind === "reference" && child.owner.reference === key;
    if (isOwner || child.alternatives.includes(key)) continue;
    const own = ownerPath(graph, child);
    const other = ownerPath(graph, parent, { alias: "q" });
    const others = other.joins.replace(/\bt\./g, "o.");
    const owner = other.owner.replace(/^t\./, "o.");
    const many = await count(
      session,
      `${own.from} join ${parent.table.from} o on ${refersTo(key, "t", "o")}${others} where ${refersSomewhere(key, "t")} and ${own.owner} <> ${owner}`,
    );
    if (many > 0)
      add(
        child.table.oid,
        "error",
        "cross_tenant",
        `${rowsOf(many, child.table.shown)} ${verb(many, "refers", "refer")} by ${key.name} to rows of ${parent.table.shown} of another tenant`,
      );
  }
}

/** Deleting a tenant's row must not reach into what all share. */
function actionsIntoTenants(graph: Graph, add: Add): void {
  const classes = new Map(graph.tables.map((table) => [table.table.oid, table]));
  for (const { name, child, parent, onDelete } of graph.references) {
    const from = classes.get(child);
    const to = classes.get(parent);
    if (!from || !to || isOwned(from) || !isOwned(to)) continue;
    if (onDelete !== "no action" && onDelete !== "restrict")
      add(
        child,
        "warning",
        "reaches_out",
        `${name}: deleting rows of ${to.table.shown} would ${onDelete} here`,
      );
    else
      add(
        child,
        "info",
        "refers_in",
        `${name} refers to rows of ${to.table.shown}: those cannot be removed while it does`,
      );
  }
}

async function policies(
  session: Session,
  graph: Graph,
  setting: string | undefined,
  add: Add,
): Promise<void> {
  const rows = await session.rows<{ oid: string; name: string; permissive: string; text: string }>(
    `select polrelid::text as oid, polname as name, polpermissive::text as permissive,
            coalesce(pg_get_expr(polqual, polrelid), '') || ' ' || coalesce(pg_get_expr(polwithcheck, polrelid), '') as text
       from pg_policy where polrelid = any($1::oid[]) order by 1, 2`,
    [graph.tables.map(({ table }) => table.oid)],
  );
  const byTable = Map.groupBy(rows, ({ oid }) => oid);
  const isSecured = graph.tables.some(({ table }) => table.hasRowSecurity);
  for (const table of graph.tables.filter(isOwned)) {
    const { oid, hasRowSecurity, isRowSecurityForced, policyColumns } = table.table;
    const own = byTable.get(oid) ?? [];
    if (isSecured && !hasRowSecurity && table.class === "direct")
      add(oid, "warning", "no_policy", "row-level security is not on, as it is for other tables");
    if (hasRowSecurity && !isRowSecurityForced)
      add(oid, "info", "not_forced", "row-level security does not bind the table's owner");
    if (
      table.owner?.kind === "column" &&
      policyColumns.length > 0 &&
      !policyColumns.includes(table.owner.column)
    )
      add(
        oid,
        "error",
        "policy_column",
        `its policies look at ${policyColumns.join(", ")}, not at ${table.owner.column}`,
      );
    for (const { name, permissive, text } of own)
      if (setting !== undefined && permissive === "true" && !text.includes(setting))
        add(
          oid,
          "warning",
          "open_policy",
          `the policy ${name} does not ask ${setting}: it shows rows of other tenants`,
        );
  }
  const partitions = await session.rows<{ root: string; name: string }>(
    `select pg_partition_root(c.oid)::oid::text as root, c.oid::regclass::text as name from pg_class c
      where c.relispartition and c.relkind = 'r' and not c.relrowsecurity and pg_partition_root(c.oid)::oid = any($1::oid[]) order by 2`,
    [
      graph.tables
        .filter((table) => isOwned(table) && table.table.hasRowSecurity)
        .map(({ table }) => table.oid),
    ],
  );
  for (const [root, found] of Map.groupBy(partitions, ({ root: of }) => of))
    add(
      root,
      "info",
      "bare_partitions",
      `policies do not guard its ${found.length} partitions when they are read by their own names`,
    );
}

async function triggersAndColumns(session: Session, graph: Graph, add: Add): Promise<void> {
  const rows = await session.rows<{ oid: string; name: string; always: string }>(
    `select tgrelid::text as oid, tgname as name, (tgenabled = 'A')::text as always from pg_trigger
      where tgrelid = any($1::oid[]) and not tgisinternal and tgenabled <> 'D' order by 2`,
    [graph.tables.filter(isOwned).map(({ table }) => table.oid)],
  );
  for (const { oid, name, always } of rows)
    add(
      oid,
      always === "true" ? "warning" : "info",
      "trigger",
      `the trigger ${name} ${always === "true" ? "fires even in a restore" : "is kept silent in a restore, where the role may"}`,
    );
  const sequences = await session.rows<{ oid: string; name: string; column: string }>(
    `select d.refobjid::text as oid, d.objid::regclass::text as name, a.attname as column from pg_depend d
       join pg_class c on c.oid = d.objid and c.relkind = 'S' join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i') and d.refobjid = any($1::oid[]) order by 2`,
    [graph.tables.filter(isOwned).map(({ table }) => table.oid)],
  );
  for (const { oid, name, column } of sequences)
    add(oid, "info", "sequence", `${column} is numbered by ${name}, which only goes forward`);
}

/** What holds rows and is no table of the tenants': told, for nobody backs it up with them. */
async function notTables(session: Session, graph: Graph, add: Add): Promise<void> {
  const rows = await session.rows<{ name: string; kind: string }>(
    `select c.oid::regclass::text as name, c.relkind::text as kind from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('f', 'm') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' order by 1`,
  );
  for (const { name, kind } of rows)
    add(
      graph.root.oid,
      "warning",
      kind === "f" ? "foreign_table" : "materialized_view",
      kind === "f"
        ? `the foreign table ${name} is in no tenant's backup`
        : `the materialised view ${name} is not refreshed by a restore (tenants.afterRestore can)`,
    );
  const [objects] = await session.rows<{ many: string }>(
    "select count(*)::text as many from pg_largeobject_metadata",
  );
  if (Number(objects?.many) > 0)
    add(
      graph.root.oid,
      "warning",
      "large_objects",
      `${objects?.many} large objects are in no tenant's backup`,
    );
}
