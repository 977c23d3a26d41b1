import type { Classified, TenantGraph } from "../../domain/tenantGraph.js";
import { quoteName, quoteText } from "../connection.js";
import { refersTo } from "../mergeSql.js";
import type { TenantReference, TenantTable } from "./schema.js";

export type Graph = TenantGraph<TenantTable, TenantReference>;
export type OwnedTable = Classified<TenantTable, TenantReference>;

/** How to reach a row's tenant in SQL. The table itself goes by `t`. */
export interface OwnerPath {
  /** What follows FROM: the table and those that lead to the tenant. */
  from: string;
  /** Without the table itself. */
  joins: string;
  /** The expression whose value is the tenant's id. */
  owner: string;
}

export interface PathOptions {
  /** Left joins keep rows that no tenant owns. */
  join?: "join" | "left join";
  /** Parents go by this letter and their number. */
  alias?: string;
}

/** Joins from a row to its tenant. */
export function ownerPath(
  graph: Graph,
  table: OwnedTable,
  { join = "join", alias = "p" }: PathOptions = {},
): OwnerPath {
  let joins = "";
  let last = "t";
  let at = table;
  for (let depth = 1; at.owner?.kind === "reference"; depth++) {
    const { reference, parent } = at.owner;
    const next = graph.tables.find(({ table: { oid } }) => oid === parent);
    if (next === undefined) break;
    joins += ` ${join} ${next.table.from} ${alias}${depth} on ${refersTo(reference, last, `${alias}${depth}`)}`;
    last = `${alias}${depth}`;
    at = next;
  }
  const column = at.owner?.kind === "column" ? at.owner.column : "";
  return { from: `${table.table.from} t${joins}`, joins, owner: `${last}.${quoteName(column)}` };
}

/** Columns that hold values of their own: what others compute is left to them. */
export const storedColumns = ({ columns }: TenantTable): TenantTable["columns"] =>
  columns.filter(({ isGenerated }) => !isGenerated);

/** By key, and the same on every server: text by its bytes. Without a key, by the whole row as text. */
export function rowOrder(table: TenantTable, alias: string): string {
  if (table.keyColumns.length === 0) {
    const columns = storedColumns(table).map(({ name }) => `${alias}.${quoteName(name)}`);
    return `row(${columns.join(", ")})::text collate "C"`;
  }
  return table.keyColumns
    .map((name) => {
      const isText = table.columns.find((column) => column.name === name)?.isCollatable ?? false;
      return `${alias}.${quoteName(name)}${isText ? ' collate "C"' : ""}`;
    })
    .join(", ");
}

/** Literals without a type take that of the column they are compared with. COPY takes no parameters. */
export const idList = (ids: string[]): string => ids.map(quoteText).join(", ");

const columnsOf = (table: TenantTable, alias: string): string =>
  storedColumns(table)
    .map(({ name }) => `${alias}.${quoteName(name)}`)
    .join(", ");

/** One tenant's rows of a table, in the order that digests are made of. The same text for backup and proof. */
export function rowsOfTenant(graph: Graph, table: OwnedTable, id: string): string {
  const { from, owner } = ownerPath(graph, table);
  return `select ${columnsOf(table.table, "t")} from ${from} where ${owner} = ${idList([id])} order by ${rowOrder(table.table, "t")}`;
}

/** The rows of several tenants, tenant by tenant in the order of their ids as text; the id comes first in every row. */
export function rowsOfTenants(graph: Graph, table: OwnedTable, ids: string[]): string {
  const { from, owner } = ownerPath(graph, table);
  const wanted = `${owner} in (${idList(ids)})`;
  const columns = columnsOf(table.table, "t");
  return `select ${owner}::text${columns === "" ? "" : `, ${columns}`} from ${from} where ${wanted} order by ${owner}::text collate "C", ${rowOrder(table.table, "t")}`;
}
