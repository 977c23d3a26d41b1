import type { Restore } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import type { Settled } from "./restoreEach.js";

/** Of several tenants one answer. */
export function sumUp(done: Settled[]): Restore {
  const restores = done.flatMap(({ restore }) => (restore === null ? [] : [restore]));
  const [first] = restores;
  const failures = done.filter(({ state }) => state.status === "failed");
  if (first === undefined)
    throw new JBackupError(
      failures.length > 0 ? "failed" : "conflict",
      failures.length > 0
        ? `no tenant was restored: ${failures.map(({ state }) => `${state.tenantId}: ${state.error}`).join("; ")}`
        : "every tenant was restored already by the run before",
      { hint: "jbackup restores shows what was done" },
    );
  if (done.length === 1) return first;
  const tables = Map.groupBy(
    restores.flatMap((restore) => restore.tables),
    ({ table }) => table,
  );
  return {
    ...first,
    status: failures.length > 0 ? "failed" : "completed",
    tenantIds: restores.flatMap(({ tenantIds }) => tenantIds),
    rowsRestored: restores.reduce((sum, restore) => sum + restore.rowsRestored, 0),
    durationMs: restores.reduce((sum, restore) => sum + (restore.durationMs ?? 0), 0),
    tables: [...tables].map(([table, rows]) => ({
      table,
      inserted: rows.reduce((sum, one) => sum + one.inserted, 0),
      updated: rows.reduce((sum, one) => sum + one.updated, 0),
      deleted: rows.reduce((sum, one) => sum + one.deleted, 0),
      unchanged: rows.reduce((sum, one) => sum + one.unchanged, 0),
    })),
    warnings: [...new Set(restores.flatMap(({ warnings }) => warnings))],
    metadata: { tenants: done.map(({ state }) => state) },
  };
}
