import { type ErrorCode, JBackupError } from "../domain/errors.js";
import type { SealContext } from "./header.js";

/** The one wording for everything that can be wrong with a sealed object. */
export function objectFault(code: ErrorCode, context: SealContext, problem: string): JBackupError {
  const { name, backupId, role } = context;
  // WAL belongs to no backup: in its place stands the id of a key, which means nothing to anybody, and so does the mark
  const isWal = role === "wal";
  const what = isWal ? name.replace(/ .*$/, "") : `${name} of backup ${backupId}`;
  return new JBackupError(code, `${what} ${problem}`, {
    hint:
      HINTS[code] ??
      `Run \`jbackup verify ${isWal ? "--all" : backupId} --heal\` to replace this copy from a good one.`,
    details: isWal ? { object: what } : { backupId, object: name },
  });
}

const HINTS: Partial<Record<ErrorCode, string>> = {
  container_foreign:
    "Nothing in normal operation moves objects: take it as tampering, run `jbackup verify --all` and read the security alerts.",
  version_mismatch: "Install the jbackup version that wrote this backup, or a newer one.",
};
