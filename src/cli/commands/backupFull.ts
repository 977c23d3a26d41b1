import type { Backup } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import { backupLogical } from "../../engine/backupLogical.js";
import { backupPhysical } from "../../engine/backupPhysical.js";
import { copiesText, sizesText } from "../backupText.js";
import { type CommandRun, withSite } from "../context.js";
import { isSet, textFlag } from "../flags.js";
import { laterIn, storeForLater } from "../later.js";
import { bytesText, countedText, countText, durationText } from "../text.js";
import { withConfig } from "./backupConfig.js";

export const run: CommandRun = (context, _args, options) => {
  const isLogical = isSet(options, "logical");
  if (isLogical && isSet(options, "physical"))
    throw new JBackupError("usage", "--logical and --physical exclude each other", {
      hint: "leave both out for a physical backup",
    });
  const fresh = isSet(options, "fresh");
  if (isLogical && fresh)
    throw new JBackupError("usage", "--fresh works with physical backups only", {
      hint: "leave it out: a logical backup is always whole",
    });
  const later = laterIn(options, context.clock.now());
  if (later !== null) return storeForLater(context, "backup full", options, later);
  return withSite(context, async (site) => {
    const note = textFlag(options, "note") ?? null;
    const backup = isLogical
      ? await backupLogical(site, { note })
      : await backupPhysical(site, { note, fresh });
    const more = await withConfig(site, options);
    const missing = backup.copies.filter(({ status }) => status !== "stored").map(({ storage }) => storage);
    const lines = [
      `${backup.label} ${missing.length === 0 ? "is complete" : "is stored, but not everywhere"}`,
      `  size    ${sizesText(backup)}`,
      isLogical ? rowsLine(backup) : clusterLine(backup),
      `  time    ${durationText(backup.durationMs ?? 0)}`,
      `  copies  ${copiesText(backup)}`,
      ...backup.warnings.map((warning) => `  note    ${warning}`),
      missing.length === 0
        ? `Next: jbackup show ${backup.label}`
        : `Next: jbackup storages check, for ${missing.join(", ")}; the next backup fills the gap`,
      ...more.lines,
    ];
    context.output.answer(more.answer(backup), lines.join("\n"));
    if (Number(backup.metadata.damagedPages ?? 0) > 0) return 4;
    return more.exit(missing.length === 0 ? 0 : 3);
  });
};

const rowsLine = ({ metadata }: Backup): string =>
  `  rows    ${countText(Number(metadata.rows))} in ${countedText(Number(metadata.tables), "table")}`;

const clusterLine = ({ metadata, rawBytes }: Backup): string => {
  const whole = `${bytesText(Number(metadata.clusterBytes))} in ${countedText(Number(metadata.files), "file")}`;
  return metadata.incremental === true
    ? `  cluster ${whole}, of which ${bytesText(rawBytes)} were new`
    : `  cluster ${whole}, stored whole`;
};
