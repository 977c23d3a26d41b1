import { recoveryKit } from "../../engine/keys.js";
import { type CommandRun, withSite } from "../context.js";
import { outFile } from "../outFile.js";

export const run: CommandRun = async (context, _args, options) => {
  const file = (await outFile(context, options, "jbackup-recovery-kit.txt")) as string;
  return withSite(context, async (site) => {
    const kit = await recoveryKit(site, file);
    context.output.answer(
      kit,
      `${kit.file} opens every backup. Print it, lock it away, and delete the file.`,
    );
    return 0;
  });
};
