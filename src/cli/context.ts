import type { Environment } from "../config/config.js";
import { type ExitCode, reasonOf } from "../domain/errors.js";
import type { DemoResult, Proof } from "../engine/demo/demo.js";
import type { SetUp } from "../engine/setUp.js";
import type { Reporter, Site } from "../engine/site.js";
import type { WalHome } from "../engine/wal/remembered.js";
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
  /** Where the configuration is; it is not read. */
  findConfigFile(request: { file: string | undefined; environment: Environment }): Promise<string>;
  /** Brings the catalog's tables up to date; answers what had to be done. */
  migrateCatalog(request: {
    configFile: string | undefined;
    environment: Environment;
    onSecret(text: string): void;
  }): Promise<{ catalog: string; migrations: string[] }>;
  createKeys(request: {
    directory: string;
  }): Promise<{ directory: string; recipient: string; signer: string }>;
  /** What sets up a site where there is none. */
  openSetUp(request: {
    environment: Environment;
    signal: AbortSignal;
    onSecret(text: string): void;
  }): Promise<SetUp>;
  runDemo(request: {
    environment: Environment;
    report: Reporter;
    signal: AbortSignal;
    onSecret(text: string): void;
    version: string;
    say(line: string): void;
    show(proof: Proof): void;
  }): Promise<DemoResult>;
}

/** Everything a command works with. */
export interface CommandContext {
  output: Output;
  environment: Environment;
  openers: Openers;
  signal: AbortSignal;
  /** Takes SIGHUP as a wish to read the configuration again, which otherwise ends the run. */
  onHangUp(listener: () => void): void;
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
  let exit: ExitCode;
  try {
    exit = await work(site);
  } catch (error) {
    // what went wrong first is what must be told
    await site.close().catch((closing) => output.report.warn(`while closing: ${reasonOf(closing)}`));
    throw error;
  }
  await site.close();
  return exit;
}

/** What the commands that PostgreSQL runs need to see whether an earlier call did their work. */
export const walHome = async (context: CommandContext): Promise<WalHome> => ({
  home: context.environment.jbackupHome,
  configFile: await context.openers.findConfigFile({
    file: context.configFile,
    environment: context.environment,
  }),
  clock: context.clock,
});

/** For commands that only look: there is nothing to clean up, so a stop does not wait for a server that is slow to answer. */
export function withSiteToRead(
  context: CommandContext,
  work: (site: Site) => Promise<ExitCode>,
): Promise<ExitCode> {
  const { signal } = context;
  signal.throwIfAborted();
  const stopped = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  return Promise.race([withSite(context, work), stopped]);
}
