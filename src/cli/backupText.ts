import type { Backup, BackupStatus, Copy } from "../domain/backup.js";
import type { Paint } from "./output.js";
import { bytesText } from "./text.js";

export function statusText(status: BackupStatus | Copy["status"] | string, paint: Paint): string {
  if (["completed", "verified", "stored", "passed", "resolved"].includes(status)) return paint.green(status);
  if (["failed", "damaged", "missing", "interrupted", "active"].includes(status))
    return paint.red(status.replace("_", " "));
  return paint.yellow(status.replace("_", " "));
}

/** "local, r2" or "local, r2 (b2 missing)". */
export function copiesText(backup: Backup): string {
  const there = backup.copies.filter(({ status }) => status === "stored").map(({ storage }) => storage);
  const not = backup.copies
    .filter(({ status }) => status !== "stored")
    .map(({ storage, status }) => `${storage} ${status}`);
  const text = there.join(", ") || "none";
  return not.length === 0 ? text : `${text} (${not.join(", ")})`;
}

export const sizesText = (backup: Backup): string =>
  `${bytesText(backup.rawBytes)} read, ${bytesText(backup.storedBytes)} stored${backup.compressionRatio === null ? "" : ` (${backup.compressionRatio} times smaller)`}`;
