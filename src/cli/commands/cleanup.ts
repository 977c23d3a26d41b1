import { type CleanupPlan, type CleanupReport, cleanup } from "../../engine/cleanup.js";
import { type CleanupRow, cleanupText } from "../cleanupText.js";
import { confirmName } from "../confirm.js";
import { type CommandRun, withSite } from "../context.js";
import { isSet, textFlag } from "../flags.js";
import { bytesText, countedText } from "../text.js";

const DAY_MS = 86_400_000;
const NO_RULE = "no rule keeps it";

const rowsOf = ({ storages }: CleanupPlan): CleanupRow[] =>
  storages.flatMap(({ storage, keep, remove }) => [
    ...keep.map(
      ({ label, reasons }): CleanupRow => ({ backup: label, storage, does: "keep", why: reasons.join("; ") }),
    ),
    ...remove.map(({ body }): CleanupRow => ({ backup: body.label, storage, does: "remove", why: NO_RULE })),
  ]);

function planText(plan: CleanupPlan, columns: number): string[] {
  const rest = plan.storages.flatMap(({ storage, wal, orphans }) => [
    ...(wal.length === 0
      ? []
      : [`${storage}: ${countedText(wal.length, "WAL file")} from before the recovery window`]),
    ...(orphans.length === 0
      ? []
      : [`${storage}: ${countedText(orphans.length, "object")} that killed runs left`]),
  ]);
  return [
    cleanupText(rowsOf(plan), columns),
    ...rest,
    ...reportsText(plan),
    ...plan.passedOver.map(({ storage, why }) => `${storage} is left alone: ${why}`),
  ];
}

const reportsText = ({ reports: { remove, stayMs } }: CleanupPlan): string[] =>
  remove.length === 0
    ? []
    : [
        `this host: ${countedText(remove.length, "file")} of reports of test restores, older than ${Math.round(stayMs / DAY_MS)} days`,
      ];

function doneText({ plan, removed, held }: CleanupReport, isDryRun: boolean): string[] {
  if (held !== null) return [`Nothing was removed: ${held}.`];
  if (removed === null) {
    const count = plan.storages.reduce((sum, { remove }) => sum + remove.length, 0);
    return [isDryRun ? `${countedText(count, "copy").replace("copys", "copies")} would be removed.` : ""];
  }
  return [
    `${removed.backups} ${removed.backups === 1 ? "copy" : "copies"} removed: ${countedText(removed.objects, "object")}, ${bytesText(removed.bytes)}.`,
    ...(removed.reports === 0 ? [] : [`${countedText(removed.reports, "file")} of old reports removed.`]),
    ...removed.locked.map(({ storage, path, why }) => `Kept by ${storage} itself: ${path}: ${why}`),
    ...removed.failed.map(
      ({ storage, path, why }) => `Not removed: ${storage === "" ? path : `${storage} ${path}`}: ${why}`,
    ),
  ];
}

const answerOf = ({ plan, removed, held }: CleanupReport, dryRun: boolean) => ({
  keep: plan.storages.flatMap(({ storage, keep }) =>
    keep.map(({ id, label, reasons }) => ({ id, label, storage, reasons })),
  ),
  remove: plan.storages.flatMap(({ storage, remove }) =>
    remove.map(({ id, body }) => ({ id, label: body.label, storage, reasons: [NO_RULE] })),
  ),
  walFiles: plan.storages.map(({ storage, wal }) => ({ storage, count: wal.length })),
  orphans: plan.storages.map(({ storage, orphans }) => ({ storage, count: orphans.length })),
  reports: plan.reports.remove,
  passedOver: plan.passedOver,
  dryRun: dryRun || held !== null,
  held,
  removed:
    removed === null
      ? null
      : {
          backups: removed.backups,
          objects: removed.objects,
          bytes: removed.bytes,
          reports: removed.reports,
        },
  locked: removed?.locked ?? [],
  failed: removed?.failed ?? [],
});

export const run: CommandRun = (context, _args, options) => {
  const dryRun = isSet(options, "dryRun");
  return withSite(context, async (site) => {
    const { output } = context;
    const report = await cleanup(site, { dryRun }, async (plan) => {
      if (context.isInteractive && textFlag(options, "confirm") === undefined)
        for (const line of planText(plan, output.columns)) output.report.info(line);
      await confirmName(
        context,
        site.config.site,
        textFlag(options, "confirm"),
        "a cleanup that removes more than a fifth of a storage's backups",
      );
    });
    output.answer(answerOf(report, dryRun), () =>
      [...planText(report.plan, output.columns), ...doneText(report, dryRun)]
        .filter((line) => line !== "")
        .join("\n"),
    );
    const isPartial = (report.removed?.failed.length ?? 0) > 0 || report.plan.passedOver.length > 0;
    return isPartial ? 3 : 0;
  });
};
