import { JBackupError, reasonOf } from "../../domain/errors.js";
import { isOfTheCaller } from "../../domain/runScope.js";
import { raiseAlert } from "../alert.js";
import type { Site } from "../site.js";

/** Failures that were told where they happened; whoever sees one pass by need not tell it again. */
const told = new WeakSet<object>();

/** A run that made no backup is an alert, also when it failed before it had begun one. The subject is its job, or a part of that. */
export async function tellFailure(
  site: Site,
  subject: string,
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
    fingerprint: `failed:${subject}`,
    message,
    hint: error instanceof JBackupError ? (error.hint ?? null) : null,
    backupId,
  });
}
