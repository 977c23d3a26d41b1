import type { Command, CommanderError } from "commander";
import { JBackupError } from "../domain/errors.js";
import { nearest } from "../domain/similar.js";
import { pathOf } from "./help.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

export function unknownCommand(word: string, parent: Command): JBackupError {
  const path = pathOf(parent);
  const meant = nearest(
    word,
    parent.commands.map((sub) => sub.name()),
  );
  return usage(
    `there is no command "${path} ${word}"${meant ? `; did you mean "${path} ${meant}"?` : ""}`,
    meant ? `${path} ${meant} --help` : `${path} --help lists the commands`,
  );
}

function unknownOption(flag: string, command: Command): JBackupError {
  const path = pathOf(command);
  const [name = flag] = flag.split("=");
  const meant = nearest(name, [...command.options.flatMap(({ long }) => long ?? []), "--help"]);
  return usage(
    `${path} has no option ${name}${meant ? `; did you mean ${meant}?` : ""}`,
    `${path} --help shows the options`,
  );
}

/** `jbackup keys` alone: what is missing is which of its commands. */
export function missingSubcommand(group: Command): JBackupError {
  const names = group.commands.map((sub) => `${pathOf(group)} ${sub.name()}`);
  return usage(`${pathOf(group)} needs to know what to do`, names.join(", "));
}

/** commander would take whatever follows for the value. */
export const valueMissing = ({ by, flag }: { by: string; flag: string }): JBackupError =>
  usage(`${by} needs a value, but ${flag} follows it`, `if ${flag} is the value, write ${by}=${flag}`);

/** commander's complaint as ours: one sentence, and where to look. */
export function usageError(error: CommanderError, command: Command): JBackupError {
  const path = pathOf(command);
  const [first = ""] = error.message.replace(/^error: /, "").split("\n");
  const quoted = /'(.*?)'/.exec(first)?.[1] ?? "";
  const look = `${path} --help shows how it is used`;
  switch (error.code) {
    case "commander.unknownCommand":
      return unknownCommand(quoted, command);
    case "commander.unknownOption":
      return unknownOption(quoted, command);
    case "commander.missingArgument":
      return usage(`${path} needs ${quoted.toUpperCase()}`, look);
    case "commander.optionMissingArgument":
      return usage(`${quoted.split(" ")[0]} needs a value`, look);
    case "commander.excessArguments":
      return usage(
        `${path} takes ${takes(command)}, but was given ${command.args.map((word) => `"${word}"`).join(", ")}`,
        look,
      );
    default:
      return usage(first.replaceAll("'", '"').replace(/\.$/, ""), look);
  }
}

const takes = ({ registeredArguments: { length } }: Command): string =>
  length === 0 ? "no arguments" : length === 1 ? "one argument" : `${length} arguments`;
