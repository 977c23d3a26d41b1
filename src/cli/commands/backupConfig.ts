import type { Backup } from "../../domain/backup.js";
import { type ExitCode, JBackupError } from "../../domain/errors.js";
import { backupConfig, isPartial } from "../../engine/backupConfig.js";
import type { Site } from "../../engine/site.js";
import { copiesText, sizesText } from "../backupText.js";
import { type CommandRun, type Options, withSite } from "../context.js";
import { isSet, textFlag } from "../flags.js";
import { laterIn, storeForLater } from "../later.js";
import { countedText, durationText } from "../text.js";

export const run: CommandRun = (context, _args, options) => {
  const later = laterIn(options, context.clock.now());
  if (later !== null) return storeForLater(context, "backup config", options, later);
  return withSite(context, async (site) => {
    const backup = await backupConfig(site, { note: textFlag(options, "note") ?? null });
    context.output.answer(backup, textOf(backup));
    return exitOf(backup);
  });
};

type Failure = Pick<JBackupError, "code" | "message" | "exitCode"> & { hint: string | null };

const failureOf = ({ code, message, hint, exitCode }: JBackupError): { error: Failure } => ({
  error: { code, message, hint: hint ?? null, exitCode },
});

export interface WithConfig {
  /** The answer with what was asked for beside it. */
  answer<Answer extends object>(answer: Answer): Answer & { config?: Backup | { error: Failure } };
  lines: string[];
  exit(code: ExitCode): ExitCode;
}

/** What `--with-config` adds to another backup: run behind it, and told with it. */
export async function withConfig(site: Site, options: Options): Promise<WithConfig> {
  if (!isSet(options, "withConfig")) return { answer: (answer) => answer, lines: [], exit: (code) => code };
  const made = await backupConfig(site, { note: textFlag(options, "note") ?? null }).catch(
    (error: unknown) => {
      site.signal.throwIfAborted();
      if (error instanceof JBackupError && error.code !== "bug") return error; // the other backup is good all the same
      throw error;
    },
  );
  const ofConfig = made instanceof JBackupError ? 3 : exitOf(made);
  return {
    answer: (answer) => ({ ...answer, config: made instanceof JBackupError ? failureOf(made) : made }),
    lines:
      made instanceof JBackupError
        ? [`The configuration files were not backed up: ${made.message}`, "Next: jbackup backup config"]
        : textOf(made).split("\n"),
    exit: (code) => (code === 0 ? ofConfig : code),
  };
}

const missingIn = ({ copies }: Backup): string[] =>
  copies.filter(({ status }) => status !== "stored").map(({ storage }) => storage);

const exitOf = (backup: Backup): ExitCode => (isPartial(backup) || missingIn(backup).length > 0 ? 3 : 0);

function textOf(backup: Backup): string {
  const missing = missingIn(backup);
  const { metadata, warnings } = backup;
  const how = isPartial(backup)
    ? "is stored, but something is missing in it"
    : missing.length > 0
      ? "is stored, but not everywhere"
      : "is complete";
  return [
    `${backup.label} ${how}`,
    `  size    ${sizesText(backup)}`,
    `  files   ${countedText(Number(metadata.files), "file")} of this host${metadata.hasServer === true ? ", the server's settings and roles, an install plan" : ", an install plan"}`,
    `  time    ${durationText(backup.durationMs ?? 0)}`,
    `  copies  ${copiesText(backup)}`,
    ...warnings.map((warning) => `  note    ${warning}`),
    missing.length === 0
      ? `Next: jbackup restore ${backup.label} --into-dir DIRECTORY --reason "look at it"`
      : `Next: jbackup storages check, for ${missing.join(", ")}; the next backup fills the gap`,
  ].join("\n");
}
