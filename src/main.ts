import { readFileSync } from "node:fs";
import { isTerminal } from "./cli/confirm.js";
import type { Openers } from "./cli/context.js";
import { asJBackupError } from "./cli/failures.js";
import { globalFlagsIn } from "./cli/globalFlags.js";
import { Output, processStreams } from "./cli/output.js";
import { execute, failureExit } from "./cli/program.js";
import { readEnvironment } from "./config/environment.js";
import { JBackupError } from "./domain/errors.js";
import { systemClock } from "./sys/clock.js";

const CLEAN_UP_MS = 9_500;
/** A launcher and its group may both pass the same signal on: what comes this soon is no second wish. */
const ECHO_MS = 500;
const IDLE_MS = 100;

/** The heavy half of the program is loaded by the command that needs it. */
export const openers: Openers = {
  openSite: async (request) => (await import("./wire.js")).openSite(request),
  findConfigFile: async (request) => (await import("./config/load.js")).findConfigFile(request),
  createKeys: async (request) => (await import("./wire.js")).createKeys(request),
  openSetUp: async (request) => (await import("./wire.js")).openSetUp(request),
  migrateCatalog: async (request) => (await import("./wire.js")).migrateCatalog(request),
  runDemo: async (request) => (await import("./wire.js")).runDemo(request),
};

const versionHere = (): string =>
  (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string })
    .version;

interface Wishes {
  signal: AbortSignal;
  onHangUp(listener: () => void): void;
}

/** The first wish to stop aborts the run, which cleans up; a second one, or a clean-up that takes too long, ends it at once. */
function stopWhenAsked(output: Output, version: string, argv: string[]): Wishes {
  const stopping = new AbortController();
  let askedAtMs = 0;
  const endNow = (reason: JBackupError, why: string): never => {
    output.fail(new JBackupError(reason.code, why, { hint: "the next run sweeps up what this one left" }));
    process.exit(failureExit(argv, reason));
  };
  const stop = (reason: JBackupError): void => {
    const nowMs = systemClock.monotonicMs();
    if (stopping.signal.aborted) {
      if (nowMs - askedAtMs > ECHO_MS) endNow(reason, `${reason.code} again: stopped without clean-up`);
      return;
    }
    askedAtMs = nowMs;
    stopping.abort(reason);
    setTimeout(() => output.report.info("stopping: what was begun is being taken back"), ECHO_MS).unref();
    const late = `${reason.code === "bug" ? reason.message : reason.code}; the clean-up took too long`;
    setTimeout(() => endNow(reason, late), CLEAN_UP_MS).unref();
  };
  const interrupted = new JBackupError("interrupted", "interrupted; what was begun has been taken back");
  const terminated = new JBackupError("terminated", "terminated; what was begun has been taken back");
  process.on("SIGINT", () => stop(interrupted));
  process.on("SIGTERM", () => stop(terminated));
  let hangUp = (): void => stop(terminated);
  process.on("SIGHUP", () => hangUp());
  // the launcher that re-executed us was killed: nobody waits for this run any more
  process.on("disconnect", () => stopping.signal.aborted || stop(terminated));
  process.channel?.unref();
  if (process.connected === false) stop(terminated);
  process.on("uncaughtException", (error) => stopping.signal.aborted || stop(asJBackupError(error, version)));
  return {
    signal: stopping.signal,
    onHangUp: (listener) => {
      hangUp = listener;
    },
  };
}

/** Before anything reads the environment. Answers what is wrong with the file. */
async function takeEnvironment(file: string | undefined): Promise<JBackupError | null> {
  try {
    if (file !== undefined) (await import("./config/environmentFile.js")).takeEnvironmentFile(file);
    return null;
  } catch (error) {
    return asJBackupError(error, versionHere());
  }
}

export async function run(argv: string[]): Promise<void> {
  const flags = globalFlagsIn(argv);
  const unread = await takeEnvironment(flags.envFile);
  const environment = readEnvironment();
  const version = versionHere();
  const { noColor, forceColor } = environment;
  const output = new Output({ ...processStreams(), ...flags, noColor, forceColor, clock: systemClock });
  if (unread !== null) {
    output.fail(unread);
    return endSoon(failureExit(argv, unread));
  }
  const exitCode = await execute(argv, {
    output,
    environment,
    openers,
    ...stopWhenAsked(output, version, argv),
    version,
    clock: systemClock,
    configFile: flags.config,
    isInteractive: !flags.noInput && !flags.json && isTerminal(),
  });
  const lost = await output.flushed();
  const unsaid = lost && new JBackupError("failed", `the answer could not be written: ${lost.message}`);
  if (unsaid) output.fail(unsaid);
  endSoon(unsaid && exitCode === 0 ? failureExit(argv, unsaid) : exitCode);
}

/**
 * process.exit right behind heavy work may hang for ever: it waits for V8's threads, and one that is compiling may be
 * waiting for this one to collect garbage (seen: Node 26.10). So the loop is left to run dry; only idle connections,
 * which must not keep a finished run alive, are cut off, once those threads have had time to end.
 */
function endSoon(exitCode: number): void {
  process.exitCode = exitCode;
  setTimeout(() => process.exit(exitCode), IDLE_MS).unref();
}
