import { isJBackupError } from "../domain/errors.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import type { Site } from "./site.js";

const FINGERPRINT = "rebuild:copies";

/** What a rebuilt catalog found to be missing somewhere; it is settled by whatever brings the last of it in. */
export async function alertRebuiltCopies(site: Site, lacking: number): Promise<void> {
  if (lacking === 0) return settleRebuiltCopies(site);
  await raiseAlert(site, {
    type: "COPY_MISSING",
    severity: "warning",
    fingerprint: FINGERPRINT,
    message: `${lacking} backups do not have their manifest in every storage that was read`,
    hint: "jbackup list shows which copies are missing; jbackup verify --all --heal brings them in",
  });
}

export async function settleRebuiltCopies(site: Site): Promise<void> {
  try {
    const open = await site.catalog.alerts({
      fingerprint: FINGERPRINT,
      status: ["active", "acknowledged"],
      limit: 1,
    });
    if (open.length === 0) return;
    const storages = await site.catalog.storageUse(site.clock.now().toISOString().slice(0, 10));
    if (storages.every(({ missing }) => missing === 0))
      await resolveAlert(site, FINGERPRINT, "every backup is in every storage again");
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return; // what is missing is not known
    throw error;
  }
}
