import { JBackupError } from "../domain/errors.js";
import { inShell } from "../domain/shell.js";
import { parseInstant } from "../domain/time.js";
import { requestRun } from "../engine/schedule/requests.js";
import { isDaemonRunning } from "../engine/schedule/show.js";
import type { Site } from "../engine/site.js";
import { type CommandContext, type Options, withSite } from "./context.js";
import { textFlag } from "./flags.js";
import { GLOBAL_OPTIONS } from "./tree.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

/** When the run is wanted; null: now. A span means from now on. */
export function laterIn(options: Options, now: Date): Date | null {
  const text = textFlag(options, "at");
  if (text === undefined) return null;
  const parsed = parseInstant(text, now);
  if (!parsed.ok)
    throw parsed.problem === "no_zone"
      ? usage(
          `--at ${text} has no time zone`,
          `write ${text.replace(" ", "T")}Z for UTC, or add an offset such as +01:00`,
        )
      : usage(
          `--at cannot be "${text}"`,
          "give a time with its zone (2026-11-20T02:00:00Z), or a span from now on (2h, 30m)",
        );
  const isSpan = !/^\d{4}-/.test(text);
  const at = isSpan ? new Date(2 * now.getTime() - parsed.at.getTime()) : parsed.at;
  if (at > now) return at;
  throw usage(
    `--at ${text} is in the past: it is ${now.toISOString()} now`,
    "give a time that is still to come, or leave --at out to run it at once",
  );
}

/** Stores the very command, without --at, for whoever carries out the schedule. */
export const storeForLater = (
  context: CommandContext,
  command: string,
  options: Options,
  at: Date,
  check: (site: Site) => Promise<void> = async () => undefined,
): Promise<0> =>
  withSite(context, async (site) => {
    await check(site);
    const request = await requestRun(site, [...command.split(" "), ...flagsOf(options)], at);
    const who = (await isDaemonRunning(site))
      ? "The daemon of this host runs it."
      : "It needs jbackup schedule run, or what schedule install made (which looks every five minutes).";
    context.output.answer(
      request,
      [
        `Stored: jbackup ${request.args.map(inShell).join(" ")}, once, at ${request.dueAt}. ${who}`,
        `Next: jbackup schedule show; jbackup schedule cancel ${request.id} takes it back`,
      ].join("\n"),
    );
    return 0;
  }) as Promise<0>;

const NOT_STORED = new Set(["at", ...GLOBAL_OPTIONS.map(([flags]) => keyOf(flags))]);

function keyOf(flags: string): string {
  const name = flags.split(" ")[0]?.replace(/^--(no-)?/, "") ?? "";
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}

function flagsOf(options: Options): string[] {
  return Object.entries(options).flatMap(([key, value]) => {
    if (NOT_STORED.has(key) || value === undefined || value === false) return [];
    const flag = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    return value === true ? [flag] : [flag, ...[value].flat()];
  });
}
