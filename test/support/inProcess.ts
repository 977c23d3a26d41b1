import { Writable } from "node:stream";
import type { Ran } from "./site.js";

/** The built modules, as the program itself loads them. */
const built = <Module>(file: string): Promise<Module> =>
  import(new URL(`../../dist/${file}`, import.meta.url).href) as Promise<Module>;

class Kept extends Writable {
  text = "";
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString("utf8");
    done();
  }
}

/** A command line as the program would run it without a terminal, in this process: for tests with hundreds of them. */
export async function runHere(argv: string[], variables: NodeJS.ProcessEnv): Promise<Ran> {
  const [{ openers }, { execute }, { Output }, { globalFlagsIn }, { readEnvironment }, { systemClock }] =
    await Promise.all([
      built<typeof import("../../src/main.js")>("main.js"),
      built<typeof import("../../src/cli/program.js")>("cli/program.js"),
      built<typeof import("../../src/cli/output.js")>("cli/output.js"),
      built<typeof import("../../src/cli/globalFlags.js")>("cli/globalFlags.js"),
      built<typeof import("../../src/config/environment.js")>("config/environment.js"),
      built<typeof import("../../src/sys/clock.js")>("sys/clock.js"),
    ]);
  const flags = globalFlagsIn(argv);
  const [stdout, stderr] = [new Kept(), new Kept()];
  const environment = readEnvironment(variables);
  const { noColor, forceColor } = environment;
  const output = new Output({ stdout, stderr, ...flags, noColor, forceColor, clock: systemClock });
  const code = await execute(argv, {
    output,
    environment,
    openers,
    signal: new AbortController().signal,
    onHangUp: () => undefined,
    version: "0.1.0",
    clock: systemClock,
    configFile: flags.config,
    isInteractive: false,
  });
  await output.flushed();
  return { code, signal: null, stdout: stdout.text, stderr: stderr.text };
}
