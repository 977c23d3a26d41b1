import type { TableRestore } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import type { RestorePlan, RestoreRequest } from "../../domain/restorePlan.js";
import type { DumpFacts, Postgres, Session, TableRows } from "../../postgres/postgres.js";

/** The database that will hold what comes back, and ways to its server. */
export interface Target {
  name: string;
  exists: boolean;
  postgres: Postgres;
  admin: Session;
}

/** What will be done, checked as far as it can be without changing anything. */
export interface Planned {
  plan: RestorePlan;
  targetTime: string | null;
  carryOut(): Promise<Outcome>;
}

/** A dump at hand in a file, and what is known of it. */
export interface Prepared {
  plan: RestorePlan;
  request: RestoreRequest;
  facts: DumpFacts;
  recordedRows: TableRows[];
  spacesMissing: boolean;
}

export interface Outcome {
  tables: TableRestore[];
  rowsRestored: number;
  warnings: string[];
  metadata: Record<string, unknown>;
}

export const restoredRows = (counted: TableRows[]): { tables: TableRestore[]; rowsRestored: number } => ({
  tables: counted.map(({ table, rows }) => ({ table, inserted: rows, updated: 0, deleted: 0, unchanged: 0 })),
  rowsRestored: counted.reduce((sum, { rows }) => sum + rows, 0),
});

export function differences(
  expected: TableRows[],
  counted: TableRows[],
  how: "equal" | "superset",
): string[] {
  const rows = new Map(counted.map((entry) => [entry.table, entry.rows]));
  const found = expected
    .filter((entry) => rows.get(entry.table) !== entry.rows)
    .map(
      (entry) => `${entry.table} has ${rows.get(entry.table) ?? "no"} rows where ${entry.rows} were recorded`,
    );
  const known = new Set(expected.map(({ table }) => table));
  const extra = how === "superset" ? [] : counted.filter(({ table }) => !known.has(table));
  return [...found, ...extra.map(({ table }) => `${table} was not in the backup`)];
}

export function requireEqual(expected: TableRows[], counted: TableRows[], label: string): void {
  const differing = differences(expected, counted, "equal");
  if (differing.length === 0) return;
  throw new JBackupError(
    "verification_failed",
    `what was restored from ${label} is not what was backed up: ${differing.slice(0, 5).join("; ")}`,
    {
      hint: "the target was not touched; try another backup from jbackup list",
      details: { differences: differing },
    },
  );
}

/** A name that is misspelt is told by the plan, not by the run behind it. */
export async function requireTables(
  { tables }: RestoreRequest,
  { postgres, name }: Target,
  recorded: TableRows[],
): Promise<void> {
  if (tables.length === 0) return;
  const session = await postgres.connect(name);
  try {
    const shown = recorded.map(({ table }) => table);
    await postgres.restoring.requireTables(session, tables, shown);
  } finally {
    await session.close();
  }
}
