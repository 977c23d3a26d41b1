import { JBackupError } from "../../domain/errors.js";
import { runDaemon } from "../../engine/schedule/daemon.js";
import type { HealthPlace } from "../../engine/schedule/health.js";
import { type OncePart, runOnce } from "../../engine/schedule/once.js";
import { runWorker } from "../../engine/schedule/worker.js";
import { isTerminal } from "../confirm.js";
import { type CommandContext, type CommandRun, type Options, withSite } from "../context.js";
import { isSet, textFlag } from "../flags.js";

function healthIn(options: Options): HealthPlace | null {
  const text = textFlag(options, "health");
  if (text === undefined) return null;
  const [, host = "", port = ""] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  if (bare !== "" && Number(port) <= 65_535) return { host: bare, port: Number(port) };
  throw new JBackupError("usage", `--health cannot be "${text}"`, {
    hint: "give HOST:PORT such as 127.0.0.1:9187, or 0.0.0.0:9187 to be reached from other hosts",
  });
}

export const run: CommandRun = (context, _args, options) => {
  const health = healthIn(options);
  const ways = ["once", "worker", "health"].filter((name) => options[name] !== undefined);
  if (ways.length > 1)
    throw new JBackupError("usage", `--${ways[0]} and --${ways[1]} exclude each other`, {
      hint: "choose one: --health belongs to the daemon, which runs everything that is scheduled",
    });
  if (isSet(options, "once")) return once(context);
  if (isSet(options, "worker")) return withSite(context, runWorker);
  return withSite(context, async (site) => {
    await runDaemon(site, {
      health,
      // a daemon at a terminal ends with it
      onReload: (listener) => isTerminal() || context.onHangUp(listener),
    });
    return 0;
  });
};

const onceText = (runs: OncePart[] | null): string => {
  if (runs === null) return "The daemon or another pass is at it already.";
  if (runs.length === 0) return "Nothing is due and nothing was missed.";
  return runs
    .map(
      ({ command, why, exitCode, error }) =>
        `${why}: jbackup ${command}: ${error === null ? "done" : `exit ${exitCode}: ${error}`}`,
    )
    .join("\n");
};

const once = (context: CommandContext): ReturnType<CommandRun> =>
  withSite(context, async (site) => {
    const runs = await runOnce(site);
    context.output.answer({ runs: runs ?? [], leftToOthers: runs === null }, onceText(runs));
    // done, done in part, or put off until the lock is free
    const isFine = runs?.every(({ exitCode }) => [0, 3, 11].includes(exitCode ?? -1)) ?? true;
    return isFine ? 0 : 1;
  });
