import { fetchWal } from "../../engine/wal/fetch.js";
import { type CommandRun, withSite } from "../context.js";

export const run: CommandRun = (context, [name = "", path = ""]) =>
  withSite(context, async (site) => {
    const isThere = await fetchWal(site, name, path);
    context.output.answer({ name, path, found: isThere }, "");
    return isThere ? 0 : 1;
  });
