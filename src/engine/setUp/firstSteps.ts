import type { Backup } from "../../domain/backup.js";
import { recordAudit } from "../audit.js";
import { backupPhysical } from "../backupPhysical.js";
import { testKeys } from "../keys.js";
import type { Site } from "../site.js";
import { recordKit } from "../writeKit.js";
import type { WrittenSite } from "./writeSite.js";

/** What a new site begins with: the records of how it came to be and, if wanted, a backup that its key is seen to open. */
export async function firstSteps(
  site: Site,
  { config, recipients }: WrittenSite,
  hasBackup: boolean,
): Promise<Backup | null> {
  await recordAudit(site, "site.init", site.config.site, { config, recipients });
  await recordKit(site, recipients);
  if (!hasBackup) return null;
  const backup = await backupPhysical(site, { note: "first backup", fresh: false });
  await testKeys(site, backup.id);
  return backup;
}
