import { type GraphTable, matches, type Reference } from "./tenantGraph.js";

export interface TenantProposal {
  /** The table of tenants, as people write it. */
  table: string;
  oid: string;
  idColumn: string;
  /** The column by which other tables name a tenant. */
  column: string;
  nameColumn: string | null;
  /** What the policies read, where there are some. */
  setting: string | null;
}

/** A policy of a table asks this setting of the application. */
export interface AskedSetting {
  oid: string;
  setting: string;
}

const STEM =
  "tenant|org|organi[sz]ation|account|company|workspace|team|client|customer|shop|store|merchant|school|clinic|site";
const TENANT_COLUMN = new RegExp(`^(${STEM})_?(id|uuid|key)$`, "i");
const NAMES = ["company_name", "display_name", "tenant_name", "org_name", "name", "title", "label", "slug"];

/** A policy is a declaration, a name only a hint. */
const POLICY_VOTES = 3;

interface Schema {
  tables: GraphTable[];
  references: Reference[];
  asked: AskedSetting[];
}

/** Who the tenants of a database are, as far as its schema tells; null when nothing points to any. */
export function proposeTenants({ tables, references, asked }: Schema): TenantProposal | null {
  for (const column of likelyColumns(tables)) {
    const root = rootFor(column, tables, references);
    if (root !== null) return proposal(root.table, root.idColumn, column, asked);
  }
  return null;
}

/** The same when somebody says which table it is; null when there is no such table. */
export function proposeNamed(wanted: string, { tables, references, asked }: Schema): TenantProposal | null {
  const table = tables.find((one) => matches(one, wanted));
  if (table === undefined) return null;
  const pairs = references.flatMap(({ child, parent, pairs: [pair, ...more] }) =>
    pair !== undefined && more.length === 0 && parent === table.oid && child !== parent
      ? [`${pair.parent} ${pair.child}`]
      : [],
  );
  const [idColumn = table.keyColumns[0] ?? "id", column = likelyColumns(tables)[0] ?? "tenant_id"] =
    mostFrequent(pairs)[0]?.split(" ") ?? [];
  return proposal(table, idColumn, column, asked);
}

const proposal = (
  table: GraphTable,
  idColumn: string,
  column: string,
  asked: AskedSetting[],
): TenantProposal => ({
  table: table.shown,
  oid: table.oid,
  idColumn,
  column,
  nameColumn: NAMES.find((name) => hasColumn(table, name)) ?? null,
  setting: mostFrequent(asked.map(({ setting }) => setting))[0] ?? null,
});

const hasColumn = ({ columns }: GraphTable, wanted: string): boolean =>
  columns.some(({ name }) => name === wanted);

/** Most likely first; a column of one table only names nobody's rows. */
function likelyColumns(tables: GraphTable[]): string[] {
  const votes = tables.flatMap(({ policyColumns, columns }) => [
    ...policyColumns.flatMap((name) => Array<string>(POLICY_VOTES).fill(name)),
    ...columns.flatMap(({ name }) => (TENANT_COLUMN.test(name) ? [name] : [])),
  ]);
  return mostFrequent(votes).filter(
    (name) => name !== "id" && votes.filter((vote) => vote === name).length > 1 && hasCompany(name, tables),
  );
}

/** `customer_id` in two tables of a plain shop names its buyers, not tenants: half of all tables are expected to have it. */
const hasCompany = (column: string, tables: GraphTable[]): boolean =>
  /^(tenant|org)/i.test(column) ||
  tables.some(({ policyColumns }) => policyColumns.includes(column)) ||
  tables.filter((table) => hasColumn(table, column)).length * 2 >= tables.length;

function rootFor(
  column: string,
  tables: GraphTable[],
  references: Reference[],
): { table: GraphTable; idColumn: string } | null {
  const named = references.flatMap(({ child, parent, pairs: [pair, ...more] }) =>
    pair !== undefined && more.length === 0 && pair.child === column && child !== parent
      ? [`${parent}.${pair.parent}`]
      : [],
  );
  const [most] = mostFrequent(named);
  if (most !== undefined) {
    const dot = most.indexOf(".");
    const table = tables.find(({ oid }) => oid === most.slice(0, dot));
    if (table !== undefined) return { table, idColumn: most.slice(dot + 1) };
  }
  const stem = column.replace(/_?(id|uuid|key)$/i, "").toLowerCase();
  const plurals = [stem, `${stem}s`, stem.replace(/y$/, "ies")];
  const table = tables.find(
    ({ name, keyColumns }) => keyColumns.length === 1 && plurals.includes(name.toLowerCase()),
  );
  return table === undefined ? null : { table, idColumn: table.keyColumns[0] ?? "id" };
}

function mostFrequent(words: string[]): string[] {
  const counts = Map.groupBy(words, (word) => word);
  return [...counts].sort(([, a], [, b]) => b.length - a.length).map(([word]) => word);
}

/** The settings that the text of a policy asks for. */
export const settingsIn = (policy: string): string[] =>
  [...policy.matchAll(/current_setting\('([^']+)'/g)].map(([, setting]) => setting ?? "");
