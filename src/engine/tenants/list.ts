import type { Backup } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import type { Site } from "../site.js";
import { listTenants } from "./choose.js";
import { withTenantGraph } from "./graph.js";
import { lastOfEachTenant } from "./lastOfEach.js";

export interface ListedTenant {
  id: string;
  name: string | null;
  active: boolean;
  lastBackupAt: string | null;
  lastBackupId: string | null;
  lastBackupStatus: Backup["status"] | null;
}

/** Every tenant there is, with its last backup. */
export async function tenantsWithBackups(site: Site): Promise<ListedTenant[]> {
  return withTenantGraph(site, async ({ session, graph }) => {
    const tenants = await listTenants(site, session, graph, "all");
    const last = await lastBackups(site);
    return tenants.map(({ id, name, isActive }) => {
      const backup = last.get(id);
      return {
        id,
        name,
        active: isActive,
        lastBackupAt: backup?.createdAt ?? null,
        lastBackupId: backup?.id ?? null,
        lastBackupStatus: backup?.status ?? null,
      };
    });
  });
}

type LastBackup = Pick<Backup, "id" | "createdAt" | "status">;

/** By tenant. */
async function lastBackups(site: Site): Promise<Map<string | null, LastBackup>> {
  const last = new Map<string | null, LastBackup>();
  try {
    for await (const backups of lastOfEachTenant(site.catalog))
      for (const { tenantId, id, createdAt, status } of backups)
        last.set(tenantId, { id, createdAt, status });
    return last;
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(
      `the catalog cannot be read (${error.message}): when tenants were backed up is not known`,
    );
    return new Map();
  }
}
