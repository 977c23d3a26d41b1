import { Command, CommanderError } from "commander";
import { secretsTypedIn } from "../domain/address.js";
import { type ExitCode, JBackupError } from "../domain/errors.js";
import type { CommandContext, Options } from "./context.js";
import { asJBackupError } from "./failures.js";
import { swallowedFlag, wantsValue, wordsIn } from "./globalFlags.js";
import { helpOf } from "./help.js";
import { COMMANDS, type CommandSpec, GLOBAL_OPTIONS, GROUPS, isAsked } from "./tree.js";
import { missingSubcommand, usageError, valueMissing } from "./usage.js";

/** Runs what was asked for. */
export type Act = (spec: CommandSpec, args: string[], options: Options) => Promise<void>;

export interface ProgramParts {
  act: Act;
  /** Text that commander itself prints: help and the version. */
  print: (text: string) => void;
  version: string;
  places: number;
}

/** The commander tree: every command knows the global flags, so that they may stand before or after its name. */
export function buildProgram({ act, print, version, places }: ProgramParts): Command {
  const bare = (name: string, summary: string, options: CommandSpec["options"] = []): Command => {
    const command = new Command(name).summary(summary).description(summary);
    command.helpCommand(false).helpOption("-h, --help", "this help");
    command.showSuggestionAfterError(false).allowExcessArguments(false).enablePositionalOptions();
    command.configureOutput({ writeOut: print, writeErr: () => undefined });
    command.configureHelp({ formatHelp: (shown) => helpOf(shown, COMMANDS, places) });
    command.exitOverride((error) => {
      throw complaint(error, command);
    });
    for (const [flags, text] of [...options, ...GLOBAL_OPTIONS]) command.option(flags, text);
    return command;
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
    const command = bare(name, spec.summary, spec.options);
    for (const argument of args) command.argument(argument);
    command.action(async () => act(spec, command.args, command.opts()));
    (group ?? program).addCommand(command);
    if (group && group.parent === null) program.addCommand(group);
  }
  return program;
}

/** commander ends in an error even after it has shown help; that one passes through unchanged. */
function complaint(error: CommanderError, command: Command): Error {
  if (error.exitCode === 0) return error;
  return error.code === "commander.help" ? missingSubcommand(command) : usageError(error, command);
}

/** Parses and runs one command line; answers the exit code, throws what went wrong. */
async function runProgram(argv: string[], context: CommandContext): Promise<ExitCode> {
  const { output, version } = context;
  let exit: ExitCode = 0;
  let printed = "";
  const program = buildProgram({
    act: async (spec, args, options) => {
      context.signal.throwIfAborted();
      const { run } = await spec.load();
      if (!isAsked(spec) && options.dryRun !== true) output.holdAnswer();
      exit = await run(context, args, options);
      // what did not go well is never quiet
      if (exit !== 0) output.releaseAnswer();
    },
    print: (text) => {
      printed += text;
    },
    version,
    places: output.columns,
  });
  try {
    const swallowed = swallowedFlag(argv);
    if (swallowed !== null) throw valueMissing(swallowed);
    // a flag that wants a value would take the word for it
    const isBare = wordsIn(argv).length === 0 && !argv.includes("--") && !wantsValue(argv.at(-1));
    const said = isBare ? [...argv, "help"] : argv;
    await program.parseAsync(said, { from: "user" });
    return exit;
  } catch (error) {
    if (!(error instanceof CommanderError) || error.exitCode !== 0) throw error;
    output.answer(error.code === "commander.version" ? { version } : { help: printed }, printed);
    return 0;
  }
}

/** PostgreSQL runs some commands itself, and gives every code a meaning of its own. */
export function failureExit(argv: string[], failure: JBackupError): number {
  const words = wordsIn(argv).join(" ");
  const spec = COMMANDS.find(
    ({ usage, failureExit: exit }) => exit !== undefined && words.startsWith(usage.replace(/ <.*/, "")),
  );
  if (spec?.failureExit === undefined) return failure.exitCode;
  // a recovery that is asked to stop knows 143 for an orderly end
  return spec.failureExit > 125 && failure.exitCode > 125 ? failure.exitCode : spec.failureExit;
}

/** One command line from words to exit code: whatever happens is told, once, and the reason of a stop counts before its effects. */
export async function execute(argv: string[], context: CommandContext): Promise<number> {
  const { output, signal, version } = context;
  for (const secret of secretsTypedIn(argv)) output.secret(secret);
  try {
    return await runProgram(argv, context);
  } catch (error) {
    const reason = signal.aborted ? signal.reason : error;
    const failure = asJBackupError(reason, version);
    output.fail(failure, reason === error || error instanceof JBackupError ? undefined : error);
    return failureExit(argv, failure);
  } finally {
    output.report.progressEnd();
  }
}
