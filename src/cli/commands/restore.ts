import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import type { Restore } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import { planRestore, type RestorePlan, type RestoreRequest, restore } from "../../engine/restore.js";
import { type ClusterRequest, planCluster, restoreCluster } from "../../engine/restoreCluster.js";
import { isConfigBackup } from "../../engine/restoreConfig.js";
import type { Site } from "../../engine/site.js";
import { confirmName } from "../confirm.js";
import { type CommandRun, type Options, withSite } from "../context.js";
import { choiceFlag, countFlag, isSet, listFlag, textFlag, timelineIn } from "../flags.js";
import { tableText } from "../table.js";
import { bytesText, countText, durationText } from "../text.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

function reasonIn(options: Options): string {
  const reason = textFlag(options, "reason")?.trim() ?? "";
  if (reason === "" && !isSet(options, "dryRun"))
    throw usage(
      "--reason is missing: every restore records why it was made",
      'add --reason "why", or look first with --dry-run',
    );
  return reason;
}

type Mode = "full" | "merge" | "pitr";

function databaseRequest(args: string[], options: Options, mode: Mode): RestoreRequest {
  const reason = reasonIn(options);
  const onConflict = choiceFlag({ "on-conflict": options.onConflict }, "on-conflict", [
    "skip",
    "overwrite",
    "fail",
  ] as const);
  if (onConflict !== undefined && mode !== "merge")
    throw usage("--on-conflict works with --mode merge only", "leave it out, or add --mode merge");
  const inPlace = isSet(options, "inPlace");
  if (inPlace && mode === "merge")
    throw usage("--in-place works with --mode full only", "leave it out: a merge is always in place");
  for (const flag of ["delta", "start"])
    if (isSet(options, flag))
      throw usage(`--${flag} works with --into-dir only`, "add --into-dir DIR, or leave it out");
  if (listFlag(options, "tablespace").length > 0)
    throw usage("--tablespace works with --into-dir only", "add --into-dir DIR, or leave it out");
  return {
    reference: args[0] ?? "latest",
    mode: mode === "merge" ? "merge" : "full",
    to: targetIn(options, mode),
    timeline: timelineIn(options),
    intoDatabase: textFlag(options, "intoDb") ?? null,
    inPlace,
    onConflict: onConflict ?? "skip",
    tables: listFlag(options, "tables"),
    reason,
    jobs: countFlag(options, "jobs", 1, 64) ?? Math.max(4, availableParallelism()),
  };
}

/** A moment is reached from files and WAL; --mode pitr alone means the end of the WAL. */
function targetIn(options: Options, mode: Mode): string | null {
  const to = textFlag(options, "to");
  if (to === undefined && options.timeline !== undefined)
    throw usage("--timeline needs --to", "say which moment on it is meant, such as --to latest");
  if (mode === "pitr") {
    if (to !== undefined) return to;
    throw usage(
      "--mode pitr needs --to",
      "give a time with its zone (2026-11-20T13:59:30Z), an LSN, the name of a restore point, or latest",
    );
  }
  if (mode === "full" && to !== undefined)
    throw usage("--to works with --mode pitr and --mode merge", "add --mode pitr");
  return to ?? null;
}

function clusterRequest(args: string[], options: Options, mode: Mode): ClusterRequest {
  if (mode === "merge")
    throw usage(
      "--mode merge does not go into a directory",
      "leave out --into-dir: it adds rows to a database",
    );
  for (const [flag, name] of [
    ["intoDb", "into-db"],
    ["inPlace", "in-place"],
    ["onConflict", "on-conflict"],
    ["tables", "tables"],
  ] as const)
    if (options[flag] !== undefined && options[flag] !== false)
      throw usage(`--${name} and --into-dir exclude each other`, "leave one of them out");
  return {
    reference: args[0] ?? "latest",
    directory: resolve(textFlag(options, "intoDir") ?? ""),
    to: targetIn(options, mode),
    timeline: timelineIn(options),
    delta: isSet(options, "delta"),
    start: isSet(options, "start"),
    tablespaces: Object.fromEntries(listFlag(options, "tablespace").map(spaceIn)),
    reason: reasonIn(options),
  };
}

function spaceIn(text: string): [name: string, place: string] {
  const at = text.indexOf("=");
  if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)];
  throw usage(`--tablespace cannot be "${text}"`, "write it as --tablespace NAME=/DIRECTORY");
}

interface Action {
  plan(site: Site): Promise<RestorePlan>;
  restore(site: Site, confirm: (plan: RestorePlan) => Promise<void>): Promise<Restore>;
}

function actionOf(args: string[], options: Options): Action {
  const mode = choiceFlag(options, "mode", ["full", "merge", "pitr"] as const) ?? "full";
  if (textFlag(options, "intoDir") !== undefined) {
    const request = clusterRequest(args, options, mode);
    return {
      plan: (site) => planCluster(site, request),
      restore: (site, confirm) => restoreCluster(site, request, confirm),
    };
  }
  const request = databaseRequest(args, options, mode);
  if (mode === "pitr" && request.intoDatabase === null && !request.inPlace)
    throw usage(
      "--mode pitr needs a place",
      "add --into-dir DIR for the whole cluster, or --into-db NAME for one database beside the live one",
    );
  return {
    plan: (site) => planRestore(site, request),
    restore: (site, confirm) => restore(site, request, confirm),
  };
}

const onTimeline = ({ timeline }: RestorePlan): string =>
  timeline === null ? "" : ` along timeline ${timeline}`;

const planText = (plan: RestorePlan): string =>
  [
    `Restore of ${plan.label}${onTimeline(plan)} (${bytesText(plan.rawBytes)}) into ${plan.target}, from ${plan.storages.join(" or ")}:`,
    ...plan.steps.map((step, at) => `  ${at + 1}. ${step}`),
    ...plan.warnings.map((warning) => `  Note: ${warning}`),
    plan.overwrites === null ? "  Nothing is overwritten." : `  This overwrites ${plan.overwrites}.`,
  ].join("\n");

function whatText({ rowsRestored, metadata }: Restore): string {
  if (typeof metadata.bytes !== "number") return `${countText(rowsRestored)} rows`;
  const files = `${bytesText(metadata.bytes)} in ${countText(Number(metadata.files))} files`;
  if (typeof metadata.replayedLsn !== "string") return files;
  const last = typeof metadata.lastCommitAt === "string" ? `, last commit ${metadata.lastCommitAt}` : "";
  return `${files}, WAL replayed to ${metadata.replayedLsn}${last},`;
}

const MOST_TABLES = 25;

function doneText(done: Restore, columns: number): string {
  const touched = done.tables.filter(({ inserted, updated, deleted }) => inserted + updated + deleted > 0);
  const table = tableText(
    touched.slice(0, MOST_TABLES),
    [
      { title: "TABLE", value: ({ table: name }) => name, rank: 0 },
      { title: "INSERTED", value: ({ inserted }) => countText(inserted), align: "right", rank: 1 },
      { title: "UPDATED", value: ({ updated }) => countText(updated), align: "right", rank: 2 },
      { title: "UNCHANGED", value: ({ unchanged }) => countText(unchanged), align: "right", rank: 3 },
    ],
    columns,
  );
  return [
    `${done.target} is restored from ${String(done.metadata.label)}: ${whatText(done)} in ${durationText(done.durationMs ?? 0)}`,
    ...(touched.length === 0 ? [] : [table]),
    ...(touched.length > MOST_TABLES
      ? [`... and ${touched.length - MOST_TABLES} more tables (--json shows all)`]
      : []),
    ...done.warnings.map((warning) => `Note: ${warning}`),
  ].join("\n");
}

/** What the given command would do: what the wizard shows before it starts anything. */
async function showPlan(
  site: Site,
  args: string[],
  options: Options,
  columns: number,
): Promise<{ text: string; overwrites: string | null; rawBytes: number; planHashes?: string[] }> {
  const looking = { ...options, dryRun: true };
  if (listFlag(options, "tenant").length > 0)
    return (await import("./restoreTenant.js")).showPlan(site, args, looking, columns);
  const plan = await actionOf(args, looking).plan(site);
  return { text: planText(plan), overwrites: plan.overwrites, rawBytes: plan.rawBytes };
}

/** Flags that say nothing about what is wanted, or are on unless they are turned off. */
const UNTELLING = ["config", "json", "quiet", "verbose", "input", "createMissing", "safetyBackup"];

const isBare = (args: string[], options: Options): boolean =>
  args.length === 0 &&
  Object.entries(options).every(
    ([name, value]) => value === undefined || (UNTELLING.includes(name) && value !== false),
  );

export const run: CommandRun = async (context, args, options) => {
  if (!isBare(args, options) || !context.isInteractive) return carryOut(context, args, options);
  const { restoreWizard } = await import("../wizards/restore.js");
  const answered = await restoreWizard(context, {
    show: (site, wanted) => showPlan(site, wanted.args, wanted.options, context.output.columns),
    confirm: (name) => confirmName(context, name, undefined, "this restore"),
  });
  return carryOut(context, answered.args, answered.options);
};

const carryOut: CommandRun = async (context, args, options) => {
  if (listFlag(options, "tenant").length > 0)
    return (await import("./restoreTenant.js")).run(context, args, options);
  const reference = args[0] ?? "latest";
  if (textFlag(options, "config")?.startsWith("--"))
    throw usage(
      `--config names jbackup's own configuration file, and ${textFlag(options, "config")} is none`,
      "to bring configuration files back: jbackup restore --config-files --into-dir DIRECTORY",
    );
  if (isSet(options, "configFiles") || reference.startsWith("config"))
    return (await import("./restoreConfig.js")).run(context, args, options);
  if (listFlag(options, "paths").length > 0)
    throw usage("--paths works with configuration files only", "add --config-files, or leave it out");
  const stray = [
    "asTenant",
    "expectPlan",
    "updateExisting",
    "deleteNew",
    "withShared",
    "triggers",
    "prove",
  ].find((flag) => options[flag] !== undefined && options[flag] !== false);
  if (stray !== undefined)
    throw usage(
      `--${stray.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} works with --tenant only`,
      "name a tenant with --tenant ID, or leave it out",
    );
  const action = actionOf(args, options);
  return withSite(context, async (site) => {
    // an id does not show of what kind the backup is
    const isId = /^[0-9a-f][0-9a-f-]{3,}$/.test(reference);
    if (isId && (await isConfigBackup(site, reference)))
      return (await import("./restoreConfig.js")).restoreConfigHere(context, site, args, options);
    if (isSet(options, "dryRun")) {
      const plan = await action.plan(site);
      context.output.answer(plan, planText(plan));
      return 0;
    }
    const done = await action.restore(site, async (plan) => {
      if (plan.overwrites === null) return;
      if (context.isInteractive && textFlag(options, "confirm") === undefined)
        for (const line of planText(plan).split("\n")) context.output.report.info(line);
      await confirmName(context, plan.overwrites, textFlag(options, "confirm"), "this restore");
    });
    context.output.answer(done, doneText(done, context.output.columns));
    return 0;
  });
};
