import type { Catalog } from "../../catalog/catalog.js";
import type { Backup } from "../../domain/backup.js";

const AT_A_TIME = 500;

/** The newest usable backup of every tenant, some at a time: those of all are too much for memory. */
export async function* lastOfEachTenant(
  catalog: Pick<Catalog, "lastOfTenants">,
  limit = AT_A_TIME,
): AsyncGenerator<Backup[]> {
  for (let after: string | null = null; ; ) {
    const page: Backup[] = await catalog.lastOfTenants({ after, limit });
    if (page.length > 0) yield page;
    after = page.at(-1)?.tenantId ?? null;
    if (page.length < limit || after === null) return;
  }
}
