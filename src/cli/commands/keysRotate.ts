import { rotateKeys } from "../../engine/keys.js";
import { type CommandRun, withSite } from "../context.js";
import { countedText } from "../text.js";

export const run: CommandRun = (context) =>
  withSite(context, async (site) => {
    const rotated = await rotateKeys(site);
    const failed = rotated.failed.map(
      ({ backupId, storage, error }) => `  ${backupId ?? "every backup"} in ${storage}: ${error}`,
    );
    context.output.answer(
      rotated,
      [
        `Sealed ${countedText(rotated.rewrapped, "backup")} for today's recipients.`,
        ...(failed.length === 0
          ? []
          : ["Not done:", ...failed, "Next: jbackup storages check, then jbackup keys rotate again"]),
      ].join("\n"),
    );
    return failed.length === 0 ? 0 : 3;
  });
