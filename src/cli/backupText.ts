import type { Backup } from "../domain/backup.js";
import type { Paint } from "./output.js";
import { bytesText } from "./text.js";

const GOOD = ["completed", "verified", "stored", "passed", "resolved", "ok"];
const BAD = ["failed", "damaged", "missing", "interrupted", "active"];

export const painted = (text: string, status: string, paint: Paint): string =>
  GOOD.includes(status) ? paint.green(text) : BAD.includes(status) ? paint.red(text) : paint.yellow(text);

export const statusText = (status: string, paint: Paint): string =>
  painted(status.replace("_", " "), status, paint);

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
  `${bytesText(backup.rawBytes)} read, ${bytesText(backup.storedBytes)} stored${(backup.compressionRatio ?? 0) < 1.05 ? "" : ` (${backup.compressionRatio} times smaller)`}`;
