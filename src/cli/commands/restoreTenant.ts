import type { Restore } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import {
  type Agreement,
  planTenants,
  restoreTenants,
  type TenantRestorePlan,
  type TenantRestoreRequest,
  type TenantsRestored,
} from "../../engine/restoreTenant.js";
import type { TenantProof } from "../../engine/showRestore.js";
import type { Site } from "../../engine/site.js";
import { confirmName } from "../confirm.js";
import { type CommandContext, type CommandRun, type Options, withSite } from "../context.js";
import { choiceFlag, isSet, listFlag, textFlag, timelineIn } from "../flags.js";
import { tableText } from "../table.js";
import { countedText, countText, durationText } from "../text.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

export const tenantsIn = (options: Options): string[] => [
  ...new Set(
    listFlag(options, "tenant")
      .flatMap((list) => list.split(","))
      .filter((id) => id !== ""),
  ),
];

const WITHOUT_TENANTS = [
  ["intoDir", "into-dir"],
  ["inPlace", "in-place"],
  ["delta", "delta"],
  ["start", "start"],
  ["onConflict", "on-conflict"],
] as const;

function requestIn(args: string[], options: Options): TenantRestoreRequest {
  for (const [flag, name] of WITHOUT_TENANTS)
    if (options[flag] !== undefined && options[flag] !== false)
      throw usage(
        `--${name} does not work with --tenant`,
        flag === "onConflict"
          ? "say what may happen to rows with --update-existing and --delete-new"
          : "leave it out: tenants come back into their tables, row by row",
      );
  const tenants = tenantsIn(options);
  if (tenants.length === 0)
    throw usage("--tenant names nobody", "give an id: jbackup tenants list shows them");
  const mode = choiceFlag(options, "mode", ["full", "merge", "pitr"] as const) ?? "full";
  const to = textFlag(options, "to") ?? null;
  if (mode === "pitr" && to === null)
    throw usage(
      "--mode pitr needs --to",
      "give a time with its zone, an LSN, a restore point's name, or latest",
    );
  if (to === null && options.timeline !== undefined)
    throw usage("--timeline needs --to", "say which moment on it is meant, such as --to latest");
  const reason = textFlag(options, "reason")?.trim() ?? "";
  if (reason === "" && !isSet(options, "dryRun"))
    throw usage(
      "--reason is missing: every restore records why it was made",
      'add --reason "why", or look first with --dry-run',
    );
  const asTenant = textFlag(options, "asTenant") ?? null;
  const expectPlan = textFlag(options, "expectPlan") ?? null;
  if (tenants.length > 1 && (asTenant !== null || expectPlan !== null))
    throw usage(
      `--${asTenant === null ? "expect-plan" : "as-tenant"} works with one --tenant`,
      "name one tenant at a time",
    );
  const isMerge = mode === "merge";
  for (const flag of ["updateExisting", "deleteNew"])
    if (isSet(options, flag) && !isMerge)
      throw usage(
        `--${flag === "updateExisting" ? "update-existing" : "delete-new"} works with --mode merge`,
        "leave it out: --mode full does all of it",
      );
  return {
    reference: args[0] ?? "latest",
    to,
    timeline: timelineIn(options),
    tenants,
    mode: isMerge ? "merge" : "full",
    createMissing: options.createMissing !== false,
    updateExisting: isSet(options, "updateExisting"),
    deleteNew: isSet(options, "deleteNew"),
    asTenant,
    tables: listFlag(options, "tables"),
    withShared: isSet(options, "withShared"),
    triggers: choiceFlag(options, "triggers", ["off", "fire"] as const) ?? "off",
    prove: choiceFlag(options, "prove", ["full", "counters"] as const) ?? "counters",
    expectPlan,
    intoDatabase: textFlag(options, "intoDb") ?? null,
    savesFirst: options.safetyBackup !== false,
    reason,
  };
}

const onTimeline = ({ timeline }: TenantRestorePlan): string =>
  timeline === null ? "" : ` on timeline ${timeline}`;

const planText = (plan: TenantRestorePlan, columns: number): string =>
  [
    `Tenant ${plan.tenantId} in ${plan.target}, from ${plan.label}${onTimeline(plan)} (plan ${plan.planHash}):`,
    tableText(
      plan.tables,
      [
        { title: "TABLE", value: ({ table }) => table, rank: 0 },
        { title: "INSERT", value: ({ inserted }) => countText(inserted), align: "right", rank: 1 },
        { title: "UPDATE", value: ({ updated }) => countText(updated), align: "right", rank: 1 },
        { title: "DELETE", value: ({ deleted }) => countText(deleted), align: "right", rank: 1 },
        { title: "UNCHANGED", value: ({ unchanged }) => countText(unchanged), align: "right", rank: 2 },
        { title: "CONFLICTS", value: ({ conflicts }) => countText(conflicts), align: "right", rank: 3 },
      ],
      columns,
    ),
    ...plan.warnings.map((warning) => `Note: ${warning}`),
    ...plan.blockers.map((blocker) => `Blocked: ${blocker}`),
    plan.blockers.length > 0
      ? "It would be refused like this."
      : plan.overwrites === null
        ? "Nothing is overwritten."
        : `This overwrites rows of tenant ${plan.overwrites}.`,
  ].join("\n");

function doneText({ restore, tenants }: TenantsRestored, columns: number): string {
  const touched = restore.tables.filter(({ inserted, updated, deleted }) => inserted + updated + deleted > 0);
  const safety = restore.metadata.safetyBackupId;
  const failed = tenants.filter(({ status }) => status === "failed");
  return [
    `${countedText(restore.tenantIds.length, "tenant")} restored in ${restore.target}: ${countText(restore.rowsRestored)} rows in ${durationText(restore.durationMs ?? 0)}`,
    ...(touched.length === 0
      ? ["Nothing differed from the backup."]
      : [
          tableText(
            touched,
            [
              { title: "TABLE", value: ({ table }) => table, rank: 0 },
              { title: "INSERTED", value: ({ inserted }) => countText(inserted), align: "right", rank: 1 },
              { title: "UPDATED", value: ({ updated }) => countText(updated), align: "right", rank: 1 },
              { title: "DELETED", value: ({ deleted }) => countText(deleted), align: "right", rank: 1 },
              { title: "UNCHANGED", value: ({ unchanged }) => countText(unchanged), align: "right", rank: 2 },
            ],
            columns,
          ),
        ]),
    ...restore.warnings.map((warning) => `Note: ${warning}`),
    ...failed.map(({ tenantId, error }) => `Failed: ${tenantId}: ${error}`),
    restore.warnings.some((warning) => warning.startsWith("triggers wrote besides"))
      ? "Proved before the commit, but for what triggers wrote besides."
      : "Proved before the commit: no row of anybody else was touched.",
    ...othersText(restore),
    ...timesText(restore.metadata.times),
    ...(typeof safety === "string" ? [`What was there before is in backup ${safety}.`] : []),
  ].join("\n");
}

/** What --prove full has seen. */
function othersText({ metadata }: Restore): string[] {
  const report = metadata.report as { proof?: TenantProof | null } | undefined;
  const others = report?.proof?.others;
  return others
    ? [`Compared, with and without it: ${countedText(others.rows, "row")} of everybody else, all the same.`]
    : [];
}

/** How long each part took, where there was more than one. */
function timesText(times: unknown): string[] {
  const { broughtUpMs, exportedMs, restoredMs } = (times ?? {}) as Record<string, number | undefined>;
  if (broughtUpMs === undefined || exportedMs === undefined || restoredMs === undefined) return [];
  return [
    `The past was brought up in ${durationText(broughtUpMs)}, the tenant read in ${durationText(exportedMs)}, written and proved in ${durationText(restoredMs)}.`,
  ];
}

/** Somebody at a terminal sees the plans before he says yes; flags say yes to whatever is needed. */
async function confirmed(
  context: CommandContext,
  options: Options,
  plans: TenantRestorePlan[],
): Promise<Agreement> {
  const names = plans.flatMap(({ overwrites }) => (overwrites === null ? [] : [overwrites]));
  // the wizard's word was for the plans that it showed
  const given = options.shownPlans === undefined ? textFlag(options, "confirm") : undefined;
  // of several tenants some may need nothing any more, as when a run is gone on with
  const wanted = [...tenantsIn(options), ...names];
  const meant = given?.split(",").filter((id) => wanted.includes(id)) ?? [];
  if (wereShown(options, plans)) return { isSeen: true, mayOverwrite: names };
  if (names.length === 0) return { isSeen: false, mayOverwrite: meant };
  const isMany = names.length > 1 || tenantsIn(options).length > 1;
  if (isMany && names.every((name) => meant.includes(name))) return { isSeen: false, mayOverwrite: meant };
  const isShown = context.isInteractive && given === undefined;
  if (isShown)
    for (const plan of plans)
      for (const line of planText(plan, context.output.columns).split("\n")) context.output.report.info(line);
  await confirmName(context, names.join(","), given, "this restore");
  return { isSeen: isShown, mayOverwrite: names };
}

/** The wizard has shown plans and asked: if they are still these, he need not be asked again. */
const wereShown = ({ shownPlans }: Options, plans: TenantRestorePlan[]): boolean =>
  Array.isArray(shownPlans) && plans.every(({ planHash }) => shownPlans.includes(planHash));

/** What the wizard shows before it starts anything. */
export async function showPlan(
  site: Site,
  args: string[],
  options: Options,
  columns: number,
): Promise<{ text: string; overwrites: string | null; rawBytes: number; planHashes: string[] }> {
  const plans = await planTenants(site, requestIn(args, options));
  const names = plans
    .filter(({ blockers }) => blockers.length === 0)
    .flatMap(({ overwrites }) => (overwrites === null ? [] : [overwrites]));
  return {
    text: plans.map((plan) => planText(plan, columns)).join("\n\n"),
    overwrites: names.length === 0 ? null : names.join(","),
    rawBytes: 0,
    planHashes: plans.map(({ planHash }) => planHash),
  };
}

export const run: CommandRun = (context, args, options) => {
  const request = requestIn(args, options);
  return withSite(context, async (site) => {
    const { output } = context;
    if (isSet(options, "dryRun")) {
      const plans = await planTenants(site, request);
      const [only] = plans;
      output.answer(
        plans.length === 1 ? only : { tenantIds: request.tenants, plans },
        plans.map((plan) => planText(plan, output.columns)).join("\n\n"),
      );
      return plans.some(({ blockers }) => blockers.length > 0) ? 14 : 0;
    }
    const done = await restoreTenants(site, request, (plans) => confirmed(context, options, plans));
    const answer: Restore = done.restore;
    output.answer(answer, doneText(done, output.columns));
    return done.tenants.some(({ status }) => status === "failed") ? 3 : 0;
  });
};
