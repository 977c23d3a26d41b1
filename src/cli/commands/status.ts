import { setTimeout as delay } from "node:timers/promises";
import { type ExitCode, JBackupError } from "../../domain/errors.js";
import type { HealthState } from "../../domain/health.js";
import type { Site } from "../../engine/site.js";
import { type SiteStatus, siteStatus } from "../../engine/status.js";
import { type CommandContext, type CommandRun, withSiteToRead } from "../context.js";
import { asJBackupError } from "../failures.js";
import { isSet } from "../flags.js";
import { statusScreen } from "../statusScreen.js";

const WATCH_MS = 5_000;

export const run: CommandRun = async (context, _args, options) => {
  if (isSet(options, "check")) return check(context);
  if (isSet(options, "watch")) return watch(context);
  return withSiteToRead(context, async (site) => {
    const status = await siteStatus(site);
    context.output.answer(status, screenOf(context, status));
    return 0;
  });
};

const screenOf = ({ output, environment }: CommandContext, status: SiteStatus): string =>
  statusScreen(status, {
    paint: output.paint,
    columns: output.columns,
    isUnicode: /utf-?8/i.test(
      ["LC_ALL", "LC_CTYPE", "LANG"].map((name) => environment.variable(name)).find((value) => value) ?? "",
    ),
  });

async function watch(context: CommandContext): Promise<ExitCode> {
  const { output, signal } = context;
  if (!output.isTerminal)
    throw new JBackupError("usage", "--watch draws on a terminal, and this is none", {
      hint: output.json
        ? "leave out --json, or ask from time to time: jbackup status --json"
        : "ask from time to time instead: jbackup status, or serve it: jbackup metrics --listen 127.0.0.1:9187",
    });
  try {
    return await withSiteToRead(context, (site) => drawUntilStopped(context, site));
  } catch (error) {
    if (signal.aborted) return 0; // to end it is what it is left by
    throw error;
  }
}

async function drawUntilStopped(context: CommandContext, site: Site): Promise<ExitCode> {
  const { output, signal } = context;
  output.draw("");
  while (!signal.aborted) {
    output.draw(`${screenOf(context, await siteStatus(site))}\n\nEvery five seconds; Ctrl-C ends it.`);
    await delay(WATCH_MS, undefined, { signal });
  }
  return 0;
}

const CODES: Record<HealthState, 0 | 1 | 2> = { ok: 0, warning: 1, critical: 2 };

/** Whoever runs this reads the first line and the exit code, and takes any failure of the check itself for "unknown". */
async function check(context: CommandContext): Promise<ExitCode> {
  const { output, signal, version } = context;
  try {
    return await withSiteToRead(context, async (site) => {
      const status = await siteStatus(site);
      const isKnown = status.catalog.error === null || status.source !== "nothing";
      output.answer(status, isKnown ? checkLine(status) : unknownLine(status.catalog.error ?? ""));
      return isKnown ? CODES[status.health.state] : 3;
    });
  } catch (error) {
    signal.throwIfAborted();
    const failure = asJBackupError(error, version);
    const { code, message, hint = null } = failure;
    output.answer({ error: { code, message, hint, exitCode: 3 } }, unknownLine(message));
    return 3;
  }
}

const MOST_TOLD = 3;

/** A second line, and what stands behind a bar, mean something of their own to whoever reads this. */
const inOneLine = (text: string): string =>
  text
    .trim()
    .replaceAll(/:\s*\n\s*/g, ": ")
    .replaceAll(/\s*\n\s*/g, "; ")
    .replaceAll("|", " ");

const unknownLine = (why: string): string => `JBACKUP UNKNOWN - ${inOneLine(why)}`;

function checkLine({ site, health, rpo, at, lastFull }: SiteStatus): string {
  const told = health.reasons.filter(({ severity }) => severity !== "info");
  const shown = told.slice(0, MOST_TOLD).map(({ message }) => inOneLine(message));
  const more = told.length > MOST_TOLD ? `; and ${told.length - MOST_TOLD} more` : "";
  const seconds = (ms: number): number => Math.round(ms / 1_000);
  const figures = [
    `score=${health.score};;;0;100`,
    ...(rpo.nowMs === null
      ? []
      : [`rpo=${seconds(rpo.nowMs)}s;${seconds(rpo.objectiveMs)};${seconds(2 * rpo.objectiveMs)};0`]),
    ...(lastFull === null ? [] : [`full_age=${seconds(Date.parse(at) - Date.parse(lastFull.at))}s;;;0`]),
  ];
  const what = shown.length === 0 ? "all is well" : shown.join("; ") + more;
  return `JBACKUP ${health.state.toUpperCase()} - ${site} ${health.score}/100: ${what} | ${figures.join(" ")}`;
}
