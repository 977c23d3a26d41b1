import { isAbsolute, join } from "node:path";
import { recoveryKit } from "../../engine/keys.js";
import { type CommandRun, withSite } from "../context.js";
import { textFlag } from "../flags.js";

export const run: CommandRun = (context, _args, options) =>
  withSite(context, async (site) => {
    const out = textFlag(options, "out") ?? "jbackup-recovery-kit.txt";
    const file = isAbsolute(out) ? out : join(context.environment.workingDirectory, out);
    const kit = await recoveryKit(site, file);
    context.output.answer(
      kit,
      `${kit.file} opens every backup. Print it, lock it away, and delete the file.`,
    );
    return 0;
  });
