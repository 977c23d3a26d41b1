import { unpinBackup } from "../../engine/pins.js";
import { type CommandRun, withSite } from "../context.js";

export const run: CommandRun = (context, args) =>
  withSite(context, async (site) => {
    const pin = await unpinBackup(site, args[0] ?? "");
    context.output.answer(pin, `Backup ${pin.backupId} is no longer pinned (it was: ${pin.reason}).`);
    return 0;
  });
