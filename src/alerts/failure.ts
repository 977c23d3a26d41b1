import { JBackupError } from "../domain/errors.js";

export const channelFailed = (name: string, what: string, cause?: unknown): JBackupError =>
  new JBackupError("channel_failed", `channel ${name} ${what}`, {
    hint: `correct it in jbackup.yaml, then try it with jbackup alerts test ${name}`,
    cause,
  });

/** A reason without what may stand in addresses: users, passwords, tokens in paths. */
export const plainReason = (error: unknown): string => {
  const { code, cause, message } = error as { code?: string; cause?: { code?: string }; message?: string };
  const known = code ?? cause?.code;
  if (known !== undefined) return known;
  return String(message ?? error).replace(/[a-z]+:\/\/\S+/gi, "its address");
};
