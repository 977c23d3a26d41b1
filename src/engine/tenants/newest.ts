import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { idProblem, parseManifestKey, pathPart } from "../../domain/reference.js";
import { type FoundBackup, findBackup } from "../findBackup.js";
import type { Site } from "../site.js";
import { storagesForReading } from "../useStorages.js";

/** What a restore may do instead. */
const elsewhere = (tenantId: string): string =>
  `take the tenant out of a full backup: name one, or a moment with --to; jbackup backup tenant --tenant ${tenantId} makes one for the next time`;

/** The newest backup of a tenant as it was at its own time. Needs no catalog. */
export async function newestOfTenant(
  site: Site,
  tenantId: string,
  hint = elsewhere(tenantId),
): Promise<FoundBackup> {
  for (const id of await idsOf(site, tenantId)) {
    const found = await findBackup(site, id);
    if (found.manifest.body.parentId === null) return found;
  }
  throw new JBackupError("not_found", `there is no backup of tenant ${tenantId}`, { hint });
}

async function idsOf(site: Site, tenantId: string): Promise<string[]> {
  try {
    const known = await site.catalog.lastOfTenants([tenantId]);
    if (known.length > 0) return known.map(({ id }) => id);
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(`the catalog cannot be read (${error.message}); looking into the storages instead`);
  }
  if (idProblem(tenantId) !== null) return []; // nothing was ever stored under it
  const { usable } = await storagesForReading(site);
  const ids = new Set<string>();
  for (const storage of usable)
    for await (const { key } of storage.list(`backups/tenant/${pathPart(tenantId)}/`)) {
      const place = parseManifestKey(key);
      if (place !== null) ids.add(place.id);
    }
  return [...ids].sort().reverse();
}
