import type { Environment } from "../config/config.js";
import type { ExitCode } from "../domain/errors.js";
import type { DemoResult } from "../engine/demo/demo.js";
import type { Reporter, Site } from "../engine/site.js";
import type { Clock } from "../sys/clock.js";
import type { Output } from "./output.js";

/** What opens the parts behind a command; the composition root supplies it. */
export interface Openers {
  openSite(request: {
    configFile: string | undefined;
    environment: Environment;
    report: Reporter;
    signal: AbortSignal;
    onSecret(text: string): void;
    version: string;
  }): Promise<Site>;
  createKeys(request: {
    directory: string;
  }): Promise<{ directory: string; recipient: string; signer: string }>;
  runDemo(request: {
    environment: Environment;
    report: Reporter;
    signal: AbortSignal;
    onSecret(text: string): void;
    version: string;
    say(line: string): void;
  }): Promise<DemoResult>;
}

/** Everything a command works with. */
export interface CommandContext {
  output: Output;
  environment: Environment;
  openers: Openers;
  signal: AbortSignal;
  version: string;
  clock: Clock;
  configFile: string | undefined;
  /** Whether a question may be asked. */
  isInteractive: boolean;
}

export type Options = Record<string, string | string[] | boolean | undefined>;

/** Answers the exit code; a failure is thrown. */
export type CommandRun = (context: CommandContext, args: string[], options: Options) => Promise<ExitCode>;

/** Opens the site for one command and closes it whatever happens. */
export async function withSite(
  context: CommandContext,
  work: (site: Site) => Promise<ExitCode>,
): Promise<ExitCode> {
  const { output, environment, signal, version, configFile } = context;
  const site = await context.openers.openSite({
    configFile,
    environment,
    report: output.report,
    signal,
    onSecret: (text) => output.secret(text),
    version,
  });
  try {
    return await work(site);
  } finally {
    await site.close();
  }
}
