import { JBackupError } from "../domain/errors.js";
import { inShell } from "../domain/shell.js";
import type { CommandContext } from "./context.js";

export type Ask = (message: string, signal: AbortSignal) => Promise<string>;

/** inquirer without a terminal throws as if it had been interrupted, so this is looked at first. */
export const isTerminal = (): boolean => process.stdin.isTTY === true && process.stderr.isTTY === true;

export { inShell };

/** Nothing is overwritten unless its name was given, by --confirm or typed. */
export async function confirmName(
  context: CommandContext,
  name: string,
  given: string | undefined,
  what: string,
  ask: Ask = askOnTerminal,
): Promise<void> {
  const flag = `--confirm ${inShell(name)}`;
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

/** Loaded only when there is something to ask. */
async function askOnTerminal(message: string, signal: AbortSignal): Promise<string> {
  const terminal = await import("./wizards/ask.js");
  return (await terminal.askOnTerminal(signal)).text(message);
}
