import { cancelRequest } from "../../engine/schedule/requests.js";
import { type CommandRun, withSite } from "../context.js";

export const run: CommandRun = (context, args) =>
  withSite(context, async (site) => {
    const request = await cancelRequest(site, args[0] ?? "");
    context.output.answer(request, `Cancelled: jbackup ${request.args.join(" ")}, due at ${request.dueAt}.`);
    return 0;
  });
