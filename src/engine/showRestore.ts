import type { Restore } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import type { Site } from "./site.js";
import { checkReport, type ReportCheck } from "./tenants/report.js";

export type { TenantProof } from "../postgres/postgres.js";

export interface ShownRestore {
  restore: Restore;
  /** Whether the proof still is what was signed; null where there is none. */
  signature: ReportCheck | null;
}

/** One restore with all that is recorded of it. */
export async function showRestore(site: Site, reference: string): Promise<ShownRestore> {
  const made = await site.catalog.restores();
  const found = made.filter(({ id }) => id.startsWith(reference));
  const [only, second] = found;
  if (only === undefined || reference === "")
    throw new JBackupError("not_found", `there is no restore "${reference}"`, {
      hint: "jbackup restores --json shows the ids",
    });
  if (second !== undefined)
    throw new JBackupError("ambiguous", `"${reference}" means ${found.length} restores`, {
      hint: "give more characters of the id",
      details: { ids: found.slice(0, 5).map(({ id }) => id) },
    });
  return { restore: only, signature: await checkReport(site, only) };
}
