import type { BackupFilter, Catalog } from "../catalog/catalog.js";
import type { Backup } from "../domain/backup.js";

const AT_A_TIME = 1_000;

/** What `catalog.backups` answers, newest first, some at a time: all of them are too much for memory. */
export async function* eachBackup(
  catalog: Pick<Catalog, "backups">,
  filter: Omit<BackupFilter, "reference" | "limit" | "behind">,
  limit = AT_A_TIME,
): AsyncGenerator<Backup> {
  for (let last: Backup | undefined; ; ) {
    const page: Backup[] = await catalog.backups({ ...filter, limit, ...(last && { behind: last }) });
    yield* page;
    last = page.at(-1);
    if (last === undefined || page.length < limit) return;
  }
}
