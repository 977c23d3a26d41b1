import { readFileSync } from "node:fs";
import type { CommandContext, Openers } from "./cli/context.js";
import { asJBackupError, Output } from "./cli/output.js";
import { runProgram } from "./cli/program.js";
import { readEnvironment } from "./config/environment.js";
import { JBackupError } from "./domain/errors.js";
import { systemClock } from "./sys/clock.js";

const CLEAN_UP_MS = 9_500;

/** The heavy half of the program is loaded by the command that needs it. */
const openers: Openers = {
  openSite: async (request) => (await import("./wire.js")).openSite(request),
  createKeys: async (request) => (await import("./wire.js")).createKeys(request),
  runDemo: async (request) => (await import("./wire.js")).runDemo(request),
};

const versionHere = (): string =>
  (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string })
    .version;

/** A flag counts wherever it stands, up to `--`. */
function flags(argv: string[]) {
  const end = argv.indexOf("--");
  const before = end === -1 ? argv : argv.slice(0, end);
  const at = before.findLastIndex((word) => word === "--config" || word.startsWith("--config="));
  const config =
    at === -1 ? undefined : before[at]?.includes("=") ? before[at].slice("--config=".length) : before[at + 1];
  return { has: (name: string): boolean => before.includes(`--${name}`), config };
}

/** The first signal asks the run to stop and clean up; a second one, or a clean-up that takes too long, ends it at once. */
function stopOnSignals(): AbortController {
  const stopping = new AbortController();
  const stop = (code: "interrupted" | "terminated", exit: number): void => {
    if (stopping.signal.aborted) {
      if (code === "interrupted") process.exit(exit);
      return; // a launcher and its group may both pass the same signal on
    }
    const word = code === "interrupted" ? "interrupted" : "terminated";
    stopping.abort(new JBackupError(code, `${word}; what was begun has been taken back`));
    setTimeout(() => process.exit(exit), CLEAN_UP_MS).unref();
  };
  process.on("SIGINT", () => stop("interrupted", 130));
  process.on("SIGTERM", () => stop("terminated", 143));
  process.on("SIGHUP", () => stop("terminated", 143));
  // the launcher that re-executed us was killed: nobody waits for this run any more
  process.on("disconnect", () => stop("terminated", 143));
  process.channel?.unref();
  return stopping;
}

export async function run(argv: string[]): Promise<void> {
  const { has, config } = flags(argv);
  const environment = readEnvironment();
  const version = versionHere();
  const output = new Output({
    stdout: process.stdout,
    stderr: process.stderr,
    json: has("json"),
    quiet: has("quiet"),
    verbose: has("verbose"),
    noColor: environment.noColor,
    forceColor: environment.forceColor,
    clock: systemClock,
  });
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(process.exitCode ?? 0); // the reader has seen enough
      throw error;
    });
  const stopping = stopOnSignals();
  const context: CommandContext = {
    output,
    environment,
    openers,
    signal: stopping.signal,
    version,
    clock: systemClock,
    configFile: config,
    isInteractive:
      !has("no-input") && !has("json") && process.stdin.isTTY === true && process.stderr.isTTY === true,
  };
  try {
    process.exitCode = await runProgram(argv, context);
  } catch (error) {
    // a run that was told to stop fails in many ways, all for that one reason
    const failure = asJBackupError(stopping.signal.aborted ? stopping.signal.reason : error, version);
    output.fail(failure);
    process.exitCode = failure.exitCode;
  }
  process.channel?.unref();
}
