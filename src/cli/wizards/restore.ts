import type { Backup } from "../../domain/backup.js";
import { listBackups, listRestores } from "../../engine/history.js";
import type { Site } from "../../engine/site.js";
import { type CommandContext, type Options, withSite } from "../context.js";
import { agoText, bytesText, durationText } from "../text.js";
import { type Ask, askOnTerminal, type Choice } from "./ask.js";
import { commandLine } from "./commandLine.js";
import { askOptions, type Way, waysOf } from "./restoreWays.js";

export interface Answered {
  args: string[];
  options: Options;
}

/** What the command makes of the answers, before it does it. */
export interface Shown {
  text: string;
  /** What would be overwritten, and so must be typed; null where nothing is. */
  overwrites: string | null;
  rawBytes: number;
  /** Of tenants' plans: what is done must be what was shown. */
  planHashes?: string[];
}

export interface WizardParts {
  show(site: Site, answered: Answered): Promise<Shown>;
  /** Asks for the name of what would be overwritten. */
  confirm(name: string): Promise<void>;
}

/** Four steps: choose, mode, options, confirm. Answers the command that was put together; nothing has been done yet. */
export async function restoreWizard(context: CommandContext, parts: WizardParts): Promise<Answered> {
  const ask = await askOnTerminal(context.signal);
  const { report } = context.output;
  let answered: Answered | undefined;
  await withSite(context, async (site) => {
    report.info("Step 1 of 4: which backup");
    const backup = await chooseBackup(site, ask, context.clock.now());
    report.info("Step 2 of 4: what it is for");
    const way = await ask.select<Way>("What do you need?", waysOf(backup, site.config.tenants !== undefined));
    report.info("Step 3 of 4: details");
    const options = await askOptions(site, ask, way, { report, now: context.clock.now() });
    const wanted = { args: way.fixed ? [backup.id] : [], options };
    report.info("Step 4 of 4: look at it once more");
    answered = await confirmed(context, site, ask, wanted, parts);
    return 0;
  });
  return answered as Answered;
}

const NEWEST_SHOWN = 2_000;

async function chooseBackup(site: Site, ask: Ask, now: Date): Promise<Backup> {
  const backups = await listBackups(site, { status: ["completed", "verified"], limit: NEWEST_SHOWN });
  const usable = backups.filter(({ kind }) => kind === "full" || kind === "tenant");
  if (usable.length === 0) {
    const { JBackupError } = await import("../../domain/errors.js");
    throw new JBackupError("not_found", "there is no backup in the catalog to restore", {
      hint: "make one with jbackup backup full, or read the storages with jbackup catalog rebuild",
    });
  }
  const fullFirst = usable.toSorted((a, b) => Number(b.kind === "full") - Number(a.kind === "full"));
  return ask.search(
    "Backup (type to search)",
    fullFirst.map((backup): Choice<Backup> => ({ name: backupLine(backup, now), value: backup })),
  );
}

function backupLine(backup: Backup, now: Date): string {
  const copies = backup.copies.filter(({ status }) => status === "stored").map(({ storage }) => storage);
  return [
    backup.label,
    agoText(backup.createdAt, now),
    backup.method ?? backup.kind,
    bytesText(backup.rawBytes),
    backup.status === "verified" ? "verified" : "not verified",
    `in ${copies.join(", ") || "no storage"}`,
    ...(backup.note === null ? [] : [`"${backup.note}"`]),
  ].join("  ");
}

async function confirmed(
  context: CommandContext,
  site: Site,
  ask: Ask,
  answered: Answered,
  { show, confirm }: WizardParts,
): Promise<Answered> {
  const { report } = context.output;
  const shown = await show(site, answered);
  for (const line of shown.text.split("\n")) report.info(line);
  const estimate = await estimateMs(site, shown.rawBytes);
  if (estimate !== null) report.info(`It took about ${durationText(estimate)} for as much, the last times.`);
  const options =
    shown.overwrites === null ? answered.options : { ...answered.options, confirm: shown.overwrites };
  report.info("The same without questions:");
  report.info(`  ${commandLine("restore", answered.args, options)}`);
  if (shown.overwrites !== null) await confirm(shown.overwrites);
  else if (!(await ask.yes("Start?", true))) {
    const { JBackupError } = await import("../../domain/errors.js");
    throw new JBackupError("needs_confirmation", "not started; nothing was changed");
  }
  const { planHashes } = shown;
  return {
    ...answered,
    options: planHashes === undefined ? options : { ...options, shownPlans: planHashes },
  };
}

/** By how fast earlier restores of files or databases were; null while there were none. */
async function estimateMs(site: Site, rawBytes: number): Promise<number | null> {
  const done = (await listRestores(site, { status: ["completed"], limit: 20 })).filter(
    ({ durationMs, metadata }) => durationMs !== null && typeof metadata.bytes === "number",
  );
  const rates = done
    .map(({ durationMs, metadata }) => Number(metadata.bytes) / Math.max(1, Number(durationMs)))
    .sort((a, b) => a - b);
  const middle = rates[Math.floor(rates.length / 2)];
  return middle === undefined || middle === 0 ? null : rawBytes / middle;
}
