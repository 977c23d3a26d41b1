import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { idProblem, parseManifestKey, pathPart } from "../../domain/reference.js";
import { type FoundBackup, findBackup } from "../findBackup.js";
import { isOutOfReach, isUnbelieved, newestOutOfReach, type PassedOver } from "../passedOver.js";
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
  const passedOver: PassedOver[] = [];
  let outOfReach: PassedOver | undefined;
  for await (const id of idsOf(site, tenantId)) {
    try {
      const found = await findBackup(site, id);
      if (found.manifest.body.parentId !== null) continue;
      if (outOfReach !== undefined) throw newestOutOfReach(outOfReach, found.manifest.body.label);
      return { ...found, passedOver };
    } catch (error) {
      site.signal.throwIfAborted();
      if (!isJBackupError(error) || isOutOfReach(error)) throw error;
      const passed = { id, error };
      if (isUnbelieved(passed)) {
        site.report.warn(`backup ${id} of tenant ${tenantId} is passed over: ${error.message}`);
        passedOver.push(passed);
      } else outOfReach ??= passed;
    }
  }
  if (outOfReach !== undefined) throw newestOutOfReach(outOfReach, null);
  if (passedOver[0] !== undefined) throw passedOver[0].error;
  throw new JBackupError("not_found", `there is no backup of tenant ${tenantId}`, { hint });
}

/** As the catalog has them, and where it has none that will do, as the storages have them: newest first. */
async function* idsOf(site: Site, tenantId: string): AsyncGenerator<string> {
  const seen = new Set<string>();
  for (const ask of [inCatalog, inStorages])
    for (const id of await ask(site, tenantId)) {
      if (seen.has(id)) continue;
      seen.add(id);
      yield id;
    }
}

async function inCatalog(site: Site, tenantId: string): Promise<string[]> {
  try {
    return (await site.catalog.lastOfTenants([tenantId])).map(({ id }) => id);
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(`the catalog cannot be read (${error.message}); looking into the storages instead`);
    return [];
  }
}

async function inStorages(site: Site, tenantId: string): Promise<string[]> {
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
