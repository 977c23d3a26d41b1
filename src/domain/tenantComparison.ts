import type { TenantFacts, TenantTableFacts } from "./tenantBackup.js";

export interface TenantComparison {
  equal: number;
  /** Tables with other rows, in a sentence each. */
  differing: string[];
  rows: number;
}

const isOwn = ({ class: is }: TenantTableFacts): boolean => is !== "shared";

/** Two states of one tenant, table by table, by the digest of every row. Shared tables are nobody's. */
export function compareTenants(
  recovered: Pick<TenantFacts, "tables">,
  backup: Pick<TenantFacts, "tables">,
): TenantComparison {
  const own = recovered.tables.filter(isOwn);
  const before = new Map(backup.tables.filter(isOwn).map((table) => [table.table, table]));
  const differing: string[] = [];
  let equal = 0;
  for (const { table, rows, sha256 } of own) {
    const other = before.get(table);
    if (other?.sha256 === sha256 && other.rows === rows) equal++;
    else if (other !== undefined || rows > 0)
      differing.push(`${table} (${other?.rows ?? "no"} rows in the backup, ${rows} recovered)`);
  }
  const here = new Set(own.map(({ table }) => table));
  for (const { table, rows } of before.values())
    if (!here.has(table) && rows > 0)
      differing.push(`${table} (${rows} rows in the backup, no such table recovered)`);
  return { equal, differing, rows: own.reduce((sum, { rows }) => sum + rows, 0) };
}
