import type { AuditHead } from "../domain/auditHead.js";
import { isJBackupError } from "../domain/errors.js";
import { makeCatalogId } from "./catalogId.js";
import { claimHome } from "./home.js";
import type { Site } from "./site.js";

/** Who is doing this: for the records. */
export const actorOf = (site: Site): string => `${site.environment.user}@${site.environment.host}`;

/** What somebody did that must not be deniable later: restores, deletions, keys, acknowledgements, the configuration. */
export async function recordAudit(
  site: Site,
  action: string,
  subject: string,
  detail: Record<string, unknown>,
): Promise<void> {
  await claimHome(site);
  await site.catalog.appendAudit({
    id: site.newId(),
    at: site.clock.now().toISOString(),
    actor: actorOf(site),
    action,
    subject,
    detail,
  });
}

/** What a manifest says of the audit. Null in a drill, whose catalog is thrown away, and while the catalog cannot be asked, for that stops no backup. */
export async function auditHead(site: Site): Promise<AuditHead | null> {
  if (site.environment.drill !== undefined) return null;
  try {
    const [last] = await site.catalog.audit(1);
    const id = await makeCatalogId(site);
    const which = id === null ? {} : { catalog: id };
    if (last === undefined) return { entries: 0, hash: null, chain: null, ...which };
    const first = await site.catalog.auditHashes([1]);
    return { entries: last.sequence, hash: last.hash, chain: first.get(1) ?? null, ...which };
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return null;
    throw error;
  }
}
