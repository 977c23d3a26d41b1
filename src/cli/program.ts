import { Command, CommanderError } from "commander";
import { EXIT_CODES, type ExitCode, JBackupError } from "../domain/errors.js";
import { nearest } from "../domain/similar.js";
import type { CommandContext, Options } from "./context.js";
import { COMMANDS, type CommandSpec, GLOBAL_OPTIONS, GROUPS } from "./tree.js";

const indent = (rows: [string, string][]): string => {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n");
};

const section = (title: string, rows: [string, string][]): string =>
  rows.length === 0 ? "" : `${title}:\n${indent(rows)}\n\n`;

const FIRST_STEPS: [string, string][] = [
  ["jbackup demo", "see the whole story on a throwaway PostgreSQL"],
  ["jbackup backup full --logical", "back the database up into all storages"],
  ["jbackup list", "what there is"],
  ['jbackup restore latest --mode full --into-db check --reason "test"', "bring it back beside the live one"],
];

/** Examples first: that is what somebody in a hurry copies. */
function helpOf(command: Command, spec: CommandSpec | undefined): string {
  const path = pathOf(command);
  const subcommands = command.commands.map((sub): [string, string] => [sub.name(), sub.summary()]);
  const options = (spec?.options ?? []).map(([flags, text]): [string, string] => [flags, text]);
  const exits = spec?.exits.map((exit): [string, string] => [String(exit), EXIT_CODES[exit]]) ?? [];
  const usage = spec ? `jbackup ${spec.usage}${options.length > 0 ? " [options]" : ""}` : `${path} <command>`;
  return [
    spec ? section("Examples", spec.examples) : path === "jbackup" ? section("Examples", FIRST_STEPS) : "",
    `Usage: ${usage}\n\n`,
    `${command.description()}\n\n`,
    section("Commands", subcommands),
    section("Options", options),
    section("Everywhere", [...GLOBAL_OPTIONS, ["-h, --help", "this help"]]),
    section("Exit codes", exits),
    path === "jbackup" ? "More: jbackup help COMMAND, jbackup help exit-codes\n" : "",
  ]
    .join("")
    .trimEnd()
    .concat("\n");
}

const pathOf = (command: Command): string =>
  command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();

export const exitCodesText = (): string =>
  `${indent(Object.entries(EXIT_CODES).map(([exit, meaning]): [string, string] => [exit, meaning]))}\n`;

const withOptions = (command: Command, options: [string, string][]): Command => {
  for (const [flags, text] of options) command.option(flags, text);
  return command;
};

export type Act = (spec: CommandSpec, args: string[], options: Options) => Promise<ExitCode>;

/** The commander tree; `act` runs what was asked for. */
export function buildProgram(act: Act, write: (text: string) => void, version: string): Command {
  const bare = (name: string, summary: string, spec?: CommandSpec): Command => {
    const command = new Command(name).summary(summary).description(summary);
    command.exitOverride().helpCommand(false).showSuggestionAfterError(true).allowExcessArguments(false);
    command.configureOutput({ writeOut: write, writeErr: () => undefined });
    command.configureHelp({ formatHelp: (shown) => helpOf(shown, spec) });
    return withOptions(command, GLOBAL_OPTIONS);
  };
  const program = bare(
    "jbackup",
    "Backs up multi-tenant PostgreSQL into several storages at once, and brings it back.",
  );
  program.version(version, "--version", "the version");
  const groups = new Map(GROUPS.map(({ name, summary }) => [name, bare(name, summary)]));
  for (const spec of COMMANDS) {
    const words = spec.usage.split(" ");
    const group = groups.get(words[0] ?? "");
    const [name = "", ...args] = group ? words.slice(1) : words;
    const command = withOptions(bare(name, spec.summary, spec), spec.options ?? []);
    for (const argument of args) command.argument(argument);
    command.action(async () => {
      await act(spec, command.args, command.opts());
    });
    (group ?? program).addCommand(command);
    if (group && group.parent === null) program.addCommand(group);
  }
  program.addCommand(
    bare("help", "help for a command; help exit-codes explains those")
      .argument("[command...]")
      .action((words: string[]) => write(helpFor(program, words))),
  );
  return program;
}

function helpFor(program: Command, words: string[]): string {
  if (words[0] === "exit-codes") return exitCodesText();
  let command = program;
  for (const word of words) {
    const next = command.commands.find((sub) => sub.name() === word);
    if (!next) throw unknownCommand(word, command);
    command = next;
  }
  return command.helpInformation();
}

const unknownCommand = (word: string, parent: Command): JBackupError => {
  const meant = nearest(
    word,
    parent.commands.map((sub) => sub.name()),
  );
  return new JBackupError("usage", `there is no command "${pathOf(parent)} ${word}"`, {
    hint: meant ? `did you mean ${pathOf(parent)} ${meant}?` : `${pathOf(parent)} --help lists the commands`,
  });
};

/** commander's complaint as ours: one sentence, and where to look. */
export function usageError(error: CommanderError, argv: string[], program: Command): JBackupError {
  let command = program;
  for (const word of argv.filter((part) => !part.startsWith("-")))
    command = command.commands.find((sub) => sub.name() === word) ?? command;
  const [first = "", ...rest] = error.message.replace(/^error: /, "").split("\n");
  if (error.code === "commander.unknownCommand") {
    const word = /'(.*)'/.exec(first)?.[1] ?? "";
    return unknownCommand(word, command);
  }
  const meant = /Did you mean (?:one of )?(.*?)\?/.exec(rest.join(" "))?.[1];
  return new JBackupError("usage", first.replaceAll("'", '"'), {
    hint: meant
      ? `did you mean ${meant}? ${pathOf(command)} --help shows the options`
      : `${pathOf(command)} --help shows how it is used`,
  });
}

const HELP_SHOWN = ["commander.helpDisplayed", "commander.help", "commander.version"];

/** Parses and runs one command line; answers the exit code, throws JBackupErrors. */
export async function runProgram(argv: string[], context: CommandContext): Promise<ExitCode> {
  let exit: ExitCode = 0;
  const program = buildProgram(
    async (spec, args, options) => {
      const { run } = await spec.load();
      exit = await run(context, args, options);
      return exit;
    },
    (text) => context.output.raw(text),
    context.version,
  );
  try {
    if (
      positionals(argv).length === 0 &&
      !argv.some((part) => ["--help", "-h", "--version"].includes(part))
    ) {
      requireKnownFlags(argv, program);
      context.output.raw(program.helpInformation());
      return 0;
    }
    await program.parseAsync(argv, { from: "user" });
    return exit;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (HELP_SHOWN.includes(error.code) && error.exitCode === 0) return 0;
    const group = missingSubcommand(argv, program);
    if (group) throw group;
    throw usageError(error, argv, program);
  }
}

/** Words that are no flag and no value of --config. */
const positionals = (argv: string[]): string[] =>
  argv.filter((part, at) => !part.startsWith("-") && argv[at - 1] !== "--config");

function requireKnownFlags(argv: string[], program: Command): void {
  const known = program.options.map((option) => option.long);
  const stray = argv.find((part) => part.startsWith("-") && !known.includes(part.split("=")[0] ?? ""));
  if (stray)
    throw new JBackupError("usage", `unknown option "${stray}"`, {
      hint: "jbackup --help shows the commands and options",
    });
}

/** `jbackup keys` alone: commander prints help and fails; we say what is missing. */
function missingSubcommand(argv: string[], program: Command): JBackupError | undefined {
  const [name, second] = positionals(argv);
  const group = program.commands.find((sub) => sub.name() === name);
  if (!group || second !== undefined || group.commands.length === 0) return undefined;
  const names = group.commands.map((sub) => `jbackup ${name} ${sub.name()}`);
  return new JBackupError("usage", `jbackup ${name} needs to know what to do`, { hint: names.join(", ") });
}
