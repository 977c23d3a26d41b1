import { isHeld } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { isPhysical } from "../bases.js";
import type { FoundBackup } from "../findBackup.js";
import type { Site } from "../site.js";

/** How much work a backup would lose is held against the objective only where a recovery would begin from it. */
export async function unjudgedFor(
  site: Site,
  { manifest: { body } }: FoundBackup,
  reference: string | null,
): Promise<string | null> {
  if (isPhysical(body)) return null; // with the WAL behind it, every one of them leads to the newest moment
  const newer = (await fulls(site)).filter(
    ({ createdAt, id }) => id !== body.backupId && createdAt > body.createdAt,
  );
  if (reference !== null && reference !== "latest" && newer.length > 0) return "an older backup was chosen";
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
