import { isHeld } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { isPhysical } from "../bases.js";
import type { FoundBackup } from "../findBackup.js";
import type { Site } from "../site.js";

/** Whether there is no newer full backup of its method. Only such a one can say that all is well. */
export async function isNewest(site: Site, { manifest: { body } }: FoundBackup): Promise<boolean> {
  const others = (await fulls(site)).filter(
    ({ id, method }) => id !== body.backupId && method === body.method,
  );
  return others.every(({ createdAt }) => createdAt < body.createdAt);
}

/** How much work a backup would lose is held against the objective only where a recovery would begin from it. */
export async function unjudgedFor(site: Site, found: FoundBackup): Promise<string | null> {
  if (isPhysical(found.manifest.body)) return null; // with the WAL behind it, every one of them leads to the newest moment
  if (!(await isNewest(site, found))) return "an older backup was chosen";
  const physical = (await fulls(site)).some((backup) => backup.method === "physical" && isHeld(backup));
  return physical ? "WAL is replayed behind physical backups only, and this site has some" : null;
}

const MOST = 1_000;

async function fulls(site: Site) {
  try {
    return await site.catalog.backups({ kind: "full", status: ["completed", "verified"], limit: MOST });
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return []; // then this one stands alone
    throw error;
  }
}
