import { testKeys } from "../../engine/keys.js";
import { type CommandRun, withSiteToRead } from "../context.js";

export const run: CommandRun = (context, args) =>
  withSiteToRead(context, async (site) => {
    const tested = await testKeys(site, args[0] ?? "latest");
    const lines = tested.opened.map(
      ({ recipient, ok }) => `  ${recipient}  ${ok ? "opened" : "its private key is not here"}`,
    );
    context.output.answer(tested, [`Backup ${tested.backupId} is sealed for:`, ...lines].join("\n"));
    return 0;
  });
