import { takeFetched } from "../../engine/wal/spool.js";
import { type CommandRun, walHome, withSite } from "../context.js";

export const run: CommandRun = async (context, [name = "", path = ""], options) => {
  if (options.ahead !== true && (await takeFetched(await walHome(context), name, path))) {
    context.output.answer({ name, path, found: true }, "");
    return 0;
  }
  const { fetchWal, fetchWalAhead } = await import("../../engine/wal/fetch.js");
  return withSite(context, async (site) => {
    if (options.ahead === true) {
      await fetchWalAhead(site, path);
      context.output.answer({ name, path, ahead: true }, "");
      return 0;
    }
    const isThere = await fetchWal(site, name, path);
    context.output.answer({ name, path, found: isThere }, "");
    return isThere ? 0 : 1;
  });
};
