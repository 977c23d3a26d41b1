import { JBackupError } from "../../domain/errors.js";
import { completionScript, SHELLS, type Shell } from "../completion.js";
import type { CommandRun } from "../context.js";

export const run: CommandRun = async (context, args) => {
  const shell = args[0] as Shell;
  if (!SHELLS.includes(shell))
    throw new JBackupError("usage", `there is no completion for "${shell}"`, {
      hint: `choose one of ${SHELLS.join(", ")}`,
    });
  const script = completionScript(shell);
  context.output.answer({ shell, script }, script);
  return 0;
};
