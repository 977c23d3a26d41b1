import { JBackupError } from "../../domain/errors.js";
import { parseInstant } from "../../domain/time.js";
import { pinBackup } from "../../engine/pins.js";
import { type CommandRun, type Options, withSite } from "../context.js";
import { textFlag } from "../flags.js";

/** A time that is still to come, or a span from now on. */
function untilIn(options: Options, now: Date): string | null {
  const text = textFlag(options, "until");
  if (text === undefined) return null;
  const parsed = parseInstant(text, now);
  if (!parsed.ok)
    throw new JBackupError("usage", `--until cannot be "${text}"`, {
      hint: "give a day (2027-01-31), a time with zone (2027-01-31T00:00:00Z), or a span (90d)",
    });
  // spans mean the past everywhere else; a pin can only mean the future
  const isSpan = parsed.at <= now && !/^\d{4}-/.test(text);
  const at = isSpan ? new Date(2 * now.getTime() - parsed.at.getTime()) : parsed.at;
  if (at > now) return at.toISOString();
  throw new JBackupError("usage", `--until ${text} is in the past`, {
    hint: "give a time that is still to come, or leave it out: the pin then holds until jbackup unpin",
  });
}

export const run: CommandRun = (context, args, options) => {
  const reason = textFlag(options, "reason")?.trim() ?? "";
  if (reason === "")
    throw new JBackupError("usage", "--reason is missing: whoever finds the pin later must know why", {
      hint: 'add --reason "why"',
    });
  const until = untilIn(options, context.clock.now());
  return withSite(context, async (site) => {
    const pin = await pinBackup(site, args[0] ?? "", { reason, until });
    const end = until === null ? "until it is unpinned" : `until ${until}`;
    context.output.answer(pin, `Backup ${pin.backupId} is pinned ${end}: no cleanup removes it.`);
    return 0;
  });
};
