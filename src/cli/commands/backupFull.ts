import { JBackupError } from "../../domain/errors.js";
import { backupLogical } from "../../engine/backupLogical.js";
import { copiesText, sizesText } from "../backupText.js";
import { type CommandRun, withSite } from "../context.js";
import { isSet, textFlag } from "../flags.js";
import { countedText, countText, durationText } from "../text.js";

export const run: CommandRun = (context, _args, options) => {
  if (!isSet(options, "logical") || isSet(options, "physical") || isSet(options, "fresh")) {
    throw new JBackupError("usage", "physical backups are not part of this version", {
      hint: "jbackup backup full --logical",
    });
  }
  return withSite(context, async (site) => {
    const backup = await backupLogical(site, { note: textFlag(options, "note") ?? null });
    const missing = backup.copies.filter(({ status }) => status !== "stored").map(({ storage }) => storage);
    const lines = [
      `${backup.label} ${missing.length === 0 ? "is complete" : "is stored, but not everywhere"}`,
      `  size    ${sizesText(backup)}`,
      `  rows    ${countText(Number(backup.metadata.rows))} in ${countedText(Number(backup.metadata.tables), "table")}`,
      `  time    ${durationText(backup.durationMs ?? 0)}`,
      `  copies  ${copiesText(backup)}`,
      ...backup.warnings.map((warning) => `  note    ${warning}`),
      missing.length === 0
        ? `Next: jbackup show ${backup.label}`
        : `Next: jbackup storages check, for ${missing.join(", ")}; the next backup fills the gap`,
    ];
    context.output.answer(backup, lines.join("\n"));
    return missing.length === 0 ? 0 : 3;
  });
};
