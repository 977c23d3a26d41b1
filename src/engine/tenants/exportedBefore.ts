import { createHash } from "node:crypto";
import type { Backup } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import type { TenantFacts } from "../../domain/tenantBackup.js";
import type { Site } from "../site.js";
import { tenantSettings } from "./graph.js";
import type { Prepared } from "./past.js";

/** What decides whose rows are whose: an export under other rules is another export. */
export const rulesInForce = (site: Site): string =>
  createHash("sha256")
    .update(JSON.stringify(tenantSettings(site)))
    .digest("hex")
    .slice(0, 16);

/**
 * Tenants that were read at this very moment already, as by a dry run or by a run that was broken off: bringing the past up
 * again would take its time and show the same rows.
 */
export async function exportedBefore(
  site: Site,
  { backup, moment, isFixed }: Prepared,
  tenants: string[],
): Promise<Map<string, string>> {
  const known = new Map<string, string>();
  if (!isFixed) return known;
  const rules = rulesInForce(site);
  const { backupId } = backup.manifest.body;
  try {
    for (const tenantId of tenants) {
      const made = await site.catalog.backups({
        kind: "tenant",
        status: ["completed", "verified"],
        tenantId,
        limit: 50,
      });
      const same = made.find((one) => {
        const source = one.metadata.source as TenantFacts["source"] | undefined;
        return (
          source?.kind === "backup" &&
          source.backupId === backupId &&
          source.moment === moment &&
          source.rules === rules &&
          isStored(one)
        );
      });
      if (same === undefined) continue;
      known.set(tenantId, same.id);
      site.report.info(`tenant ${tenantId} was read as of ${moment} before: taking ${same.label}`);
    }
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
  }
  return known;
}

const isStored = ({ copies }: Backup): boolean => copies.some(({ status }) => status === "stored");
