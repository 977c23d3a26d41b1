import type { CommandRun } from "../context.js";
import { exitCodesList, exitCodesText } from "../help.js";
import { buildProgram } from "../program.js";
import { unknownCommand } from "../usage.js";

export const run: CommandRun = async ({ output, version }, words) => {
  if (words[0] === "exit-codes") {
    output.answer(exitCodesList(), exitCodesText(output.columns));
    return 0;
  }
  const nothing = async () => undefined;
  let command = buildProgram({ act: nothing, print: () => undefined, version, places: output.columns });
  for (const word of words) {
    const next = command.commands.find((sub) => sub.name() === word);
    if (!next) throw unknownCommand(word, command);
    command = next;
  }
  const text = command.helpInformation();
  output.answer({ help: text }, text);
  return 0;
};
