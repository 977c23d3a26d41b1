import { resolve } from "node:path";
import type { Restore } from "../../domain/backup.js";
import { countStates, type FileDifference, type FileState } from "../../domain/configBackup.js";
import type { ConfigPlan, ConfigRequest } from "../../domain/configPlan.js";
import { type ExitCode, JBackupError } from "../../domain/errors.js";
import { planConfig, restoreConfig } from "../../engine/restoreConfig.js";
import type { Site } from "../../engine/site.js";
import { confirmName, inShell } from "../confirm.js";
import { type CommandContext, type CommandRun, type Options, withSite } from "../context.js";
import { isSet, listFlag, textFlag } from "../flags.js";
import { bytesText, countedText, durationText } from "../text.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

/** Flags of `restore` that are about databases and clusters. */
const STRANGE = ["mode", "to", "delta", "start", "tablespace", "intoDb", "onConflict", "tables", "jobs"];

function requestIn(args: string[], options: Options): ConfigRequest {
  const stray = STRANGE.find((flag) => options[flag] !== undefined && options[flag] !== false);
  if (stray !== undefined)
    throw usage(
      `--${stray.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} does not work with configuration files`,
      "leave it out: they go into a folder with --into-dir, or to their places with --in-place",
    );
  const directory = textFlag(options, "intoDir");
  if ((directory === undefined) === !isSet(options, "inPlace"))
    throw usage(
      directory === undefined
        ? "where the configuration files go is not said"
        : "--in-place and --into-dir exclude each other",
      "give --into-dir DIRECTORY to look at them, or --in-place (first with --dry-run) to bring them back",
    );
  if (directory === "") throw usage("the folder in --into-dir is empty", "name a new folder");
  const reason = textFlag(options, "reason")?.trim() ?? "";
  if (reason === "" && !isSet(options, "dryRun"))
    throw usage(
      "--reason is missing: every restore records why it was made",
      'add --reason "why", or look first with --dry-run',
    );
  return {
    reference: args[0] === undefined || args[0] === "config" ? "latest" : args[0],
    directory: directory === undefined ? null : resolve(directory),
    paths: listFlag(options, "paths").map((path) => resolve(path)),
    reason,
  };
}

export const run: CommandRun = (context, args, options) => {
  requestIn(args, options); // what is mistyped is said before anything is opened
  return withSite(context, (site) => restoreConfigHere(context, site, args, options));
};

export async function restoreConfigHere(
  context: CommandContext,
  site: Site,
  args: string[],
  options: Options,
): Promise<ExitCode> {
  const request = requestIn(args, options);
  if (isSet(options, "dryRun")) {
    const plan = await planConfig(site, request);
    context.output.answer(plan, planText(plan));
    return 0;
  }
  const confirm = async (plan: ConfigPlan): Promise<void> => {
    if (plan.overwrites === null) return;
    if (context.isInteractive && textFlag(options, "confirm") === undefined)
      for (const line of planText(plan).split("\n")) context.output.report.info(line);
    await confirmName(context, plan.overwrites, textFlag(options, "confirm"), "this restore");
  };
  const done = await restoreConfig(site, request, confirm);
  context.output.answer(done, doneText(done));
  return 0;
}

const SIGNS: Record<FileState, string> = {
  same: " ",
  changed: "M",
  missing: "+",
  attributes: "~",
  inTheWay: "!",
  extra: "?",
};

const lineOf = ({ path, state, what }: FileDifference): string =>
  `  ${SIGNS[state]} ${path}${what === null ? (state === "missing" ? "  (missing here)" : "") : `  (${what})`}`;

function planText(plan: ConfigPlan): string {
  const many = countStates(plan.files);
  return [
    `Restore of ${plan.label} (${bytesText(plan.rawBytes)}, taken on ${plan.host}) ${plan.way === "in-place" ? `to its places on ${plan.target}` : `into ${plan.target}`}, from ${plan.storages.join(" or ")}:`,
    ...plan.steps.map((step, at) => `  ${at + 1}. ${step}`),
    ...(plan.way === "in-place" ? [`Files: ${countsText(many)}`] : []),
    ...plan.files.filter(({ state }) => state !== "same").map(lineOf),
    ...plan.warnings.map((warning) => `  Note: ${warning}`),
    plan.overwrites === null
      ? "  Nothing is overwritten."
      : `  This overwrites files of this host; confirm with --confirm ${inShell(plan.overwrites)}`,
  ].join("\n");
}

const countsText = (many: Record<FileState, number>): string =>
  Object.entries(many)
    .filter(([, count]) => count > 0)
    .map(([state, count]) => `${count} ${state === "inTheWay" ? "in the way" : state}`)
    .join(", ");

function doneText({ target, metadata, durationMs, warnings }: Restore): string {
  const took = durationText(durationMs ?? 0);
  const isInPlace = typeof metadata.installPlan !== "string";
  return [
    isInPlace
      ? `The configuration files of ${target} are restored from ${String(metadata.label)}: ${countedText(Number(metadata.files), "file")} written, ${String(metadata.attributes)} with other attributes, ${String(metadata.same)} right before, in ${took}`
      : `${countedText(Number(metadata.files), "configuration file")}, ${bytesText(Number(metadata.bytes))}, of ${String(metadata.label)} are in ${target}, in ${took}`,
    ...(isInPlace ? [`  what was replaced is kept in ${String(metadata.keptIn)}`] : []),
    ...warnings.map((warning) => `Note: ${warning}`),
    isInPlace
      ? "Next: let PostgreSQL read them: select pg_reload_conf(), or restart it; jbackup doctor looks at the rest"
      : `Next: read ${String(metadata.installPlan)}`,
  ].join("\n");
}
