import { availableParallelism } from "node:os";
import type { Restore } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import { planRestore, type RestorePlan, type RestoreRequest, restore } from "../../engine/restore.js";
import { confirmName } from "../confirm.js";
import { type CommandRun, type Options, withSite } from "../context.js";
import { choiceFlag, countFlag, isSet, listFlag, textFlag } from "../flags.js";
import { tableText } from "../table.js";
import { bytesText, countText, durationText } from "../text.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

function requestOf(args: string[], options: Options): RestoreRequest {
  const mode = choiceFlag(options, "mode", ["full", "merge", "pitr"] as const) ?? "full";
  if (mode === "pitr")
    throw usage("point-in-time recovery is not part of this version", "use --mode full or --mode merge");
  const isDryRun = isSet(options, "dryRun");
  const reason = textFlag(options, "reason")?.trim() ?? "";
  if (reason === "" && !isDryRun)
    throw usage(
      "--reason is missing: every restore records why it was made",
      'add --reason "why", or look first with --dry-run',
    );
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
  return {
    reference: args[0] ?? "latest",
    mode,
    intoDatabase: textFlag(options, "intoDb") ?? null,
    inPlace,
    onConflict: onConflict ?? "skip",
    tables: listFlag(options, "tables"),
    reason,
    jobs: countFlag(options, "jobs", 1, 64) ?? Math.max(4, availableParallelism()),
  };
}

const planText = (plan: RestorePlan): string =>
  [
    `Restore of ${plan.label} (${bytesText(plan.rawBytes)}) into ${plan.target}, from ${plan.storages.join(" or ")}:`,
    ...plan.steps.map((step, at) => `  ${at + 1}. ${step}`),
    ...plan.warnings.map((warning) => `  Note: ${warning}`),
    plan.overwrites === null ? "  Nothing is overwritten." : `  This overwrites ${plan.overwrites}.`,
  ].join("\n");

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
    `${done.target} is restored: ${countText(done.rowsRestored)} rows in ${durationText(done.durationMs ?? 0)}`,
    ...(touched.length === 0 ? [] : [table]),
    ...(touched.length > MOST_TABLES
      ? [`... and ${touched.length - MOST_TABLES} more tables (--json shows all)`]
      : []),
    ...done.warnings.map((warning) => `Note: ${warning}`),
  ].join("\n");
}

export const run: CommandRun = (context, args, options) => {
  const request = requestOf(args, options);
  return withSite(context, async (site) => {
    if (isSet(options, "dryRun")) {
      const plan = await planRestore(site, request);
      context.output.answer(plan, planText(plan));
      return 0;
    }
    const done = await restore(site, request, async (plan) => {
      if (plan.overwrites === null) return;
      if (context.isInteractive && textFlag(options, "confirm") === undefined)
        for (const line of planText(plan).split("\n")) context.output.report.info(line);
      await confirmName(context, plan.overwrites, textFlag(options, "confirm"), "this restore");
    });
    context.output.answer(done, doneText(done, context.output.columns));
    return 0;
  });
};
