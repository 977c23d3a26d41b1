import { Writable } from "node:stream";
import type { CommandContext, Openers } from "../../src/cli/context.js";
import { globalFlagsIn } from "../../src/cli/globalFlags.js";
import { Output, type OutputSettings } from "../../src/cli/output.js";
import { execute } from "../../src/cli/program.js";
import { readEnvironment } from "../../src/config/environment.js";
import type { Clock } from "../../src/sys/clock.js";

/** A stream that remembers what was written to it; with columns it is a terminal. */
export class Captured extends Writable {
  text = "";
  isTTY: boolean;
  columns: number;

  constructor(columns?: number) {
    super();
    this.isTTY = columns !== undefined;
    this.columns = columns ?? 0;
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.text += chunk.toString("utf8");
    done();
  }
}

/** Time that passes when the test says so. */
export class HandClock implements Clock {
  ms = 0;
  now = (): Date => new Date(Date.parse("2026-11-20T12:00:00Z") + this.ms);
  monotonicMs = (): number => this.ms;
}

export interface Captures {
  stdout: Captured;
  stderr: Captured;
  clock: HandClock;
  output: Output;
}

export function captureOutput(
  settings: Partial<OutputSettings> = {},
  columns: { stdout?: number; stderr?: number } = {},
): Captures {
  const stdout = new Captured(columns.stdout);
  const stderr = new Captured(columns.stderr);
  const clock = new HandClock();
  const plain = { json: false, quiet: false, verbose: false, noColor: false, forceColor: false };
  return { stdout, stderr, clock, output: new Output({ ...plain, ...settings, stdout, stderr, clock }) };
}

export interface Ran {
  exitCode: number;
  stdout: string;
  stderr: string;
}

const unexpected = async (): Promise<never> => {
  throw new Error("this command opens nothing");
};

/** Runs a command line as the process would, in this process. */
export async function jbackup(
  argv: string[],
  given: Partial<Openers> & {
    columns?: number;
    signal?: AbortSignal;
    variables?: NodeJS.ProcessEnv;
    isInteractive?: boolean;
  } = {},
): Promise<Ran> {
  const flags = globalFlagsIn(argv);
  const columns = given.columns === undefined ? {} : { stdout: given.columns };
  const { stdout, stderr, clock, output } = captureOutput(flags, columns);
  const context: CommandContext = {
    output,
    environment: readEnvironment(given.variables ?? {}),
    openers: {
      openSite: given.openSite ?? unexpected,
      findConfigFile: given.findConfigFile ?? unexpected,
      createKeys: given.createKeys ?? unexpected,
      openSetUp: given.openSetUp ?? unexpected,
      migrateCatalog: given.migrateCatalog ?? unexpected,
      runDemo: given.runDemo ?? unexpected,
    },
    signal: given.signal ?? new AbortController().signal,
    onHangUp: () => undefined,
    version: "1.2.3",
    clock,
    configFile: flags.config,
    isInteractive: given.isInteractive ?? false,
  };
  const exitCode = await execute(argv, context);
  await output.flushed();
  return { exitCode, stdout: stdout.text, stderr: stderr.text };
}
