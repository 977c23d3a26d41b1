import { JBackupError } from "../../domain/errors.js";
import { type VerifyReport, verify } from "../../engine/verify.js";
import { type CommandRun, type Options, withSite } from "../context.js";
import { choiceFlag, flagText, isSet, textFlag } from "../flags.js";
import { bytesText, countedText, countText, durationText } from "../text.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

/** `7/day`: a seventh of everything each day. */
function shareIn(options: Options): { days: number } | null {
  const text = textFlag(options, "share");
  if (text === undefined) return null;
  const days = Number(/^(\d{1,3})\/day$/.exec(text)?.[1] ?? "0");
  if (days >= 1) return { days };
  throw usage(`--share cannot be "${text}"`, "write 7/day: a seventh each day, so everything within a week");
}

const MOST_SHOWN = 50;

function reportText(report: VerifyReport, labelOf: (id: string) => string, wasHealing: boolean): string {
  const { problems, healed, unknown } = report;
  const lines = [
    `${countedText(report.checked, "object")} of ${countedText(report.backups, "backup")} checked (${report.level}, ${bytesText(report.bytes)}) in ${durationText(report.durationMs)}`,
    ...problems.slice(0, MOST_SHOWN).map(({ storage, path, problem, backupId }) => {
      const what = path === "" ? "" : ` ${path}`;
      return `  ${storage}:${what} ${problem}${backupId === null ? "" : `  (${labelOf(backupId)})`}`;
    }),
    ...(problems.length > MOST_SHOWN
      ? [`  ... and ${problems.length - MOST_SHOWN} more (--json shows all)`]
      : []),
    ...(healed.length > 0
      ? [`${countedText(healed.length, "object")} replaced from a good copy and read back.`]
      : []),
    ...unknown.map(
      ({ storage, objects, bytes }) =>
        `Note: ${storage} holds ${countText(objects)} objects (${bytesText(bytes)}) that belong to no backup; cleanup removes them when they are two days old.`,
    ),
  ];
  if (problems.length === 0)
    lines.push(healed.length > 0 ? "Every copy is right again." : "Every copy is right.");
  else
    lines.push(
      wasHealing
        ? "Try: what is left has no copy that is proved right here; on a host with the private key, or when the other storages can be read, jbackup verify --all --heal may find one."
        : "Try: jbackup verify --heal with the same arguments replaces what is wrong from a good copy.",
    );
  return lines.join("\n");
}

export const run: CommandRun = async (context, args, options) => {
  const report = textFlag(options, "checkReport");
  if (report !== undefined) return (await import("./testRestore.js")).checkReportRun(context, args, options);
  const level = choiceFlag(options, "level", ["stored", "sealed", "content", "restore"] as const) ?? "stored";
  if (level === "restore") return (await import("./testRestore.js")).run(context, args, options);
  for (const name of ["tenantSample", "report"])
    if (options[name] !== undefined)
      throw usage(`${flagText(name)} works with --level restore`, "add --level restore, or leave it out");
  const all = isSet(options, "all");
  const share = shareIn(options);
  if (all && args[0] !== undefined)
    throw usage("a backup and --all exclude each other", "leave one of them out");
  if (share !== null && args[0] !== undefined)
    throw usage("--share works with --all", "leave out the backup: a share is of everything");
  return withSite(context, async (site) => {
    const report = await verify(site, {
      reference: args[0] ?? null,
      all: all || share !== null,
      level,
      heal: isSet(options, "heal"),
      share,
      storage: textFlag(options, "storage") ?? null,
    });
    context.output.answer(
      report,
      reportText(report, (id) => id.slice(0, 13), isSet(options, "heal")),
    );
    return report.problems.length === 0 ? 0 : 4;
  });
};
