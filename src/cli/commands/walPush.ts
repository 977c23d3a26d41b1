import { basename } from "node:path";
import { wasPushed } from "../../engine/wal/remembered.js";
import { type CommandRun, walHome, withSite } from "../context.js";

export const run: CommandRun = async (context, [path = ""]) => {
  if (!(await wasPushed(await walHome(context), basename(path), path))) {
    const { pushWal } = await import("../../engine/wal/push.js");
    await withSite(context, async (site) => {
      await pushWal(site, path);
      return 0;
    });
  }
  context.output.answer({ pushed: path }, "");
  return 0;
};
