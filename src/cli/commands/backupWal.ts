import type { Backup } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import { archiveWal } from "../../engine/archiveWal.js";
import { copiesText } from "../backupText.js";
import { type CommandRun, withSite } from "../context.js";
import { isSet, textFlag } from "../flags.js";
import { laterIn, storeForLater } from "../later.js";
import { bytesText, countedText, durationText } from "../text.js";
import { withConfig } from "./backupConfig.js";

export const run: CommandRun = (context, _args, options) => {
  const later = laterIn(options, context.clock.now());
  if (later !== null && isSet(options, "follow"))
    throw new JBackupError("usage", "--at and --follow exclude each other", {
      hint: "schedule: {wal: follow} lets jbackup schedule run keep a follower",
    });
  if (later !== null) return storeForLater(context, "backup wal", options, later);
  return withSite(context, async (site) => {
    const backup = await archiveWal(site, {
      note: textFlag(options, "note") ?? null,
      follow: isSet(options, "follow"),
    });
    const more = await withConfig(site, options);
    const missing = backup.copies.filter(({ status }) => status !== "stored").map(({ storage }) => storage);
    context.output.answer(more.answer(backup), [textOf(backup, missing), ...more.lines].join("\n"));
    return more.exit(missing.length === 0 ? 0 : 3);
  });
};

const textOf = (backup: Backup, missing: string[]): string =>
  [
    `WAL is archived up to ${backup.metadata.toLsn} on timeline ${backup.metadata.timeline}`,
    `  new     ${countedText(Number(backup.metadata.segments), "segment")} and ${countedText(Number(backup.metadata.pieces), "piece")}, ${bytesText(backup.rawBytes)}, stored as ${bytesText(backup.storedBytes)}`,
    `  time    ${durationText(backup.durationMs ?? 0)}`,
    `  copies  ${copiesText(backup)}`,
    ...(missing.length === 0
      ? []
      : [`Next: jbackup storages check, for ${missing.join(", ")}; the next pass fills the gap`]),
  ].join("\n");
