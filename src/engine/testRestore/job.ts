import type { BackupMethod } from "../../domain/backup.js";

export const TEST_RESTORE_JOB = "test-restore";

/** What went wrong with backups of one method says nothing of those of the other. */
export const ofMethod = (what: "failed" | "rto" | "rpo", method: BackupMethod): string =>
  `${what}:${TEST_RESTORE_JOB}:${method}`;

/** The fingerprints of tests that failed, each open until one of its method passes. */
export const TESTS_FAILED: readonly string[] = (["physical", "logical"] as const).map((method) =>
  ofMethod("failed", method),
);
