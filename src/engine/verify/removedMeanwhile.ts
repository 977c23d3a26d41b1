import { isJBackupError } from "../../domain/errors.js";
import type { Site } from "../site.js";
import type { Problem } from "./problem.js";

/** A cleanup may have worked beside us: what it took away on purpose since the storages were listed is no damage. */
export async function withoutRemoved(site: Site, problems: Problem[]): Promise<Problem[]> {
  const removed = new Set<string>();
  const ids = problems.flatMap(({ kind, backupId }) =>
    kind === "missing" && backupId !== null ? [backupId] : [],
  );
  try {
    for (const id of new Set(ids))
      for (const { copies } of await site.catalog.backups({ reference: id, limit: 1 }))
        for (const { storage, status } of copies) if (status === "removed") removed.add(`${id} ${storage}`);
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error; // said when the storages were surveyed
  }
  return problems.filter(
    ({ kind, backupId, storage }) => kind !== "missing" || !removed.has(`${backupId} ${storage}`),
  );
}
