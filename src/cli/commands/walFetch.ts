import { fetchWal, fetchWalAhead } from "../../engine/wal/fetch.js";
import { type CommandRun, withSite } from "../context.js";

export const run: CommandRun = (context, [name = "", path = ""], options) =>
  withSite(context, async (site) => {
    if (options.ahead === true) {
      await fetchWalAhead(site, path);
      context.output.answer({ name, path, ahead: true }, "");
      return 0;
    }
    const isThere = await fetchWal(site, name, path);
    context.output.answer({ name, path, found: isThere }, "");
    return isThere ? 0 : 1;
  });
