import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import { raiseAlert } from "../alert.js";
import type { Site } from "../site.js";

/** Failures that were told where they happened; whoever sees one pass by need not tell it again. */
const told = new WeakSet<object>();

/** Somebody sits there and reads the answer, or another run is at work: nothing is wrong with the backups. */
const isOfTheCaller = (error: unknown): boolean =>
  isJBackupError(error, "usage", "not_found", "ambiguous", "locked", "needs_confirmation");

/** A run that made no backup is an alert, also when it failed before it had begun one. */
export async function tellFailure(
  site: Site,
  job: string,
  error: unknown,
  { message = reasonOf(error), backupId = null }: { message?: string; backupId?: string | null } = {},
): Promise<void> {
  if (site.signal.aborted || isOfTheCaller(error)) return;
  if (typeof error === "object" && error !== null) {
    if (told.has(error)) return;
    told.add(error);
  }
  await raiseAlert(site, {
    type: "BACKUP_FAILURE",
    severity: "critical",
    fingerprint: `failed:${job}`,
    message,
    hint: error instanceof JBackupError ? (error.hint ?? null) : null,
    backupId,
  });
}
