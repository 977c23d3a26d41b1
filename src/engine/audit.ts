import type { Site } from "./site.js";

/** Who is doing this: for the records. */
export const actorOf = (site: Site): string => `${site.environment.user}@${site.environment.host}`;

/** What somebody did that must not be deniable later: restores, deletions, keys, acknowledgements, the configuration. */
export const recordAudit = (
  site: Site,
  action: string,
  subject: string,
  detail: Record<string, unknown>,
): Promise<void> =>
  site.catalog.appendAudit({
    id: site.newId(),
    at: site.clock.now().toISOString(),
    actor: actorOf(site),
    action,
    subject,
    detail,
  });
