import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";

/** Something in a storage that is not as it should be. */
export interface Problem {
  /** Null for what belongs to no backup: WAL, and storages as a whole. */
  backupId: string | null;
  storage: string;
  /** The object's key. */
  path: string;
  /** One sentence part: "is missing", "has 100 bytes instead of 200". */
  problem: string;
  kind: "missing" | "damaged" | "tampered" | "unreadable";
  /** What the bytes must be; null where only another copy can tell. */
  sha256: string | null;
  bytes: number | null;
}

const TAMPERED = ["manifest_unsigned", "manifest_forged", "manifest_foreign", "manifest_older"] as const;
const DAMAGED = [
  "object_corrupt",
  "object_truncated",
  "frame_reordered",
  "frame_duplicated",
  "container_foreign",
  "manifest_invalid",
] as const;

/** What went wrong with one object, as a finding. What is no finding at all (no key, a stop, a bug) is thrown on. */
export function problemOf(
  error: unknown,
  place: Pick<Problem, "backupId" | "storage" | "path" | "sha256" | "bytes">,
): Problem {
  if (!(error instanceof JBackupError)) throw error;
  if (isJBackupError(error, "bug", "no_key", "secret_unavailable", "interrupted", "terminated")) throw error;
  const found = (kind: Problem["kind"], problem: string): Problem => ({ ...place, kind, problem });
  if (isJBackupError(error, "object_missing")) return found("missing", "is missing");
  if (isJBackupError(error, ...TAMPERED)) return found("tampered", `cannot be believed: ${reasonOf(error)}`);
  if (isJBackupError(error, ...DAMAGED)) return found("damaged", reasonOf(error));
  return found("unreadable", `cannot be read: ${reasonOf(error)}`);
}
