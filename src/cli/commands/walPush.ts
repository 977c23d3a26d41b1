import { pushWal } from "../../engine/wal/push.js";
import { type CommandRun, withSite } from "../context.js";

export const run: CommandRun = (context, [path = ""]) =>
  withSite(context, async (site) => {
    await pushWal(site, path);
    context.output.answer({ pushed: path }, "");
    return 0;
  });
