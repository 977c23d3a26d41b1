import type { Backup } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import { channelName } from "../../domain/siteDraft.js";
import { firstSteps, type WrittenSite } from "../../engine/setUp.js";
import { copiesText } from "../backupText.js";
import { inShell } from "../confirm.js";
import { type CommandContext, type CommandRun, withSite } from "../context.js";
import { isSet } from "../flags.js";
import { bytesText, durationText } from "../text.js";
import { askOnTerminal } from "../wizards/ask.js";
import { type Decided, decideSite } from "../wizards/init.js";

export const run: CommandRun = async (context, _args, options) => {
  const isYes = isSet(options, "yes");
  if (!isYes && !context.isInteractive)
    throw new JBackupError("usage", "there is no terminal to ask at", {
      hint: "give --yes to take the defaults, and --database-url, --storage, --tenants where they should not be guessed",
    });
  const { output, environment, signal } = context;
  const setUp = await context.openers.openSetUp({
    environment,
    signal,
    onSecret: (text) => output.secret(text),
  });
  const ask = isYes ? null : await askOnTerminal(signal);
  const decided = await decideSite({ context, setUp, options, ask });
  const written = await setUp.write(decided.draft, decided.files);
  const backup = await begin(context, written, decided.hasBackup);
  output.answer(answerOf(decided, written, backup), textOf(decided, written, backup, context));
  return backup?.copies.some(({ status }) => status !== "stored") ? 3 : 0;
};

/** The site stands by now: when its first backup fails, that is one more command and no reason to begin again. */
async function begin(
  context: CommandContext,
  written: WrittenSite,
  hasBackup: boolean,
): Promise<Backup | null> {
  const { config } = written;
  let made: Backup | null = null;
  try {
    await withSite({ ...context, configFile: config }, async (site) => {
      made = await firstSteps(site, written, hasBackup);
      return 0;
    });
  } catch (error) {
    context.output.report.warn(
      `${config} is written, only its first backup failed: jbackup backup full makes it`,
    );
    throw error;
  }
  return made;
}

const answerOf = (
  { draft }: Decided,
  written: WrittenSite,
  backup: Backup | null,
): Record<string, unknown> => ({
  site: draft.site,
  file: written.config,
  keys: written.keys,
  kit: written.kit,
  recipients: written.recipients,
  storages: draft.storages.map(({ name, kind }) => ({ name, kind })),
  tenants: draft.tenants,
  alerts: draft.channel === null ? null : { name: channelName(draft.channel), kind: draft.channel.kind },
  backup,
});

function textOf(
  { draft, files }: Decided,
  { config, keys, kit }: WrittenSite,
  backup: Backup | null,
  { environment }: CommandContext,
): string {
  const found = [`${environment.workingDirectory}/jbackup.yaml`, "/etc/jbackup/jbackup.yaml"].includes(
    files.config,
  );
  const command = (words: string): string => `jbackup ${words}${found ? "" : ` --config ${inShell(config)}`}`;
  const steps: [command: string, what: string][] = [
    ...(backup === null ? [[command("backup full"), "the first backup"] as [string, string]] : []),
    [command("backup wal"), "everything since; then any moment can be reached"],
    [command("schedule install"), "from now on by itself"],
    [command("doctor"), "what is still missing"],
    ...(draft.tenants === null
      ? []
      : [[command("tenants coverage"), "every table, and whose it is"] as [string, string]]),
    [command("restore --dry-run"), "what a restore would do"],
    [command("dr list"), "what to do on the day of the disaster"],
  ];
  const width = Math.max(...steps.map(([line]) => line.length));
  return [
    `Site ${draft.site} is set up.`,
    `  configuration  ${config}`,
    `  keys           ${keys}`,
    `  recovery kit   ${kit}`,
    ...(backup === null
      ? []
      : [
          `  first backup   ${backup.label}: ${bytesText(backup.rawBytes)} in ${durationText(backup.durationMs ?? 0)}, in ${copiesText(backup)}`,
        ]),
    "The kit opens every backup, also when this host is gone. Print it, lock it away, delete the file.",
    "Next:",
    ...steps.map(([line, what]) => `  ${line.padEnd(width)}  ${what}`),
  ].join("\n");
}
