import { JBackupError } from "../domain/errors.js";
import type { CommandContext } from "./context.js";

/** Nothing is overwritten unless its name was given, by --confirm or typed. */
export async function confirmName(
  context: CommandContext,
  name: string,
  given: string | undefined,
  what: string,
): Promise<void> {
  const flag = `--confirm ${/^[\w./-]+$/.test(name) ? name : JSON.stringify(name)}`;
  if (given !== undefined) {
    if (given === name) return;
    throw new JBackupError(
      "needs_confirmation",
      `--confirm says "${given}", but what would be overwritten is "${name}"`,
      {
        hint: `if that is meant, give ${flag}`,
      },
    );
  }
  if (!context.isInteractive) {
    throw new JBackupError(
      "needs_confirmation",
      `${what} overwrites "${name}" and needs its name as confirmation`,
      {
        hint: `give ${flag}`,
      },
    );
  }
  const typed = await ask(`Type ${name} to overwrite it:`, context.signal);
  if (typed.trim() === name) return;
  throw new JBackupError("needs_confirmation", `"${typed.trim()}" is not "${name}"; nothing was changed`, {
    hint: `run it again and type ${name}, or give ${flag}`,
  });
}

async function ask(message: string, signal: AbortSignal): Promise<string> {
  const { default: inquirer } = await import("inquirer");
  try {
    const { answer } = await inquirer.prompt<{ answer: string }>(
      [{ type: "input", name: "answer", message }],
      { signal },
    );
    return answer;
  } catch (error) {
    signal.throwIfAborted();
    if ((error as Error).name === "ExitPromptError")
      throw new JBackupError("interrupted", "stopped at the question; nothing was changed", { cause: error });
    throw error;
  }
}
