import { isJBackupError } from "../../domain/errors.js";
import { type Installed, removeSystemd } from "../../engine/schedule/install.js";
import { removeCron } from "../../engine/schedule/installCron.js";
import { type CommandRun, withSite } from "../context.js";
import { isSet } from "../flags.js";
import { directoryIn, kindIn } from "../scheduleFlags.js";

export const run: CommandRun = (context, args, options) => {
  const kind = kindIn(args[0]);
  const dryRun = isSet(options, "dryRun");
  const wish = { dryRun, directory: directoryIn(context, options), user: null };
  return withSite(context, async (site) => {
    const done: Installed[] = [];
    if (kind !== "cron") done.push(await removeSystemd(site, wish));
    if (kind !== "systemd")
      try {
        done.push(await removeCron(site, wish));
      } catch (error) {
        // where there is no cron, there is nothing of ours in it
        if (kind === "cron" || !isJBackupError(error, "environment")) throw error;
      }
    const files = done.flatMap((one) => one.files);
    const lines = files.map(({ path }) => `${path}: ${dryRun ? "would be removed" : "removed"}`);
    context.output.answer(
      { dryRun, files: files.map(({ path, action }) => ({ path, action })) },
      lines.length === 0 ? "Nothing of this site is installed." : lines.join("\n"),
    );
    return 0;
  });
};
