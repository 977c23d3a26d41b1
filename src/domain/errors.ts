/** Every way jbackup can fail, with the exit code that scripts rely on. Documentation is generated from this table. */
export const EXIT_CODES = {
  0: "done",
  1: "failed",
  2: "usage or configuration error",
  3: "done in part (a storage, some tenants): what is missing is named",
  4: "verification or a drill found problems",
  10: "no such backup, storage or repository",
  11: "another run holds the lock",
  12: "no key opens this",
  13: "needs confirmation",
  14: "target refused (not empty, wrong cluster, already running)",
  15: "objective missed (RTO or RPO)",
  16: "environment: tool missing, wrong version, not enough space",
  130: "interrupted by Ctrl-C, after clean-up",
  143: "terminated (SIGTERM), after clean-up",
} as const;

export type ExitCode = keyof typeof EXIT_CODES;

export const ERROR_CODES = {
  failed: 1,
  bug: 1,
  usage: 2,
  config_missing: 2,
  config_invalid: 2,
  secret_unavailable: 2,
  partial: 3,
  // what was stored is not what was written
  object_corrupt: 4,
  object_truncated: 4,
  frame_reordered: 4,
  frame_duplicated: 4,
  container_foreign: 4,
  manifest_invalid: 4,
  manifest_unsigned: 4,
  manifest_forged: 4,
  manifest_foreign: 4,
  manifest_older: 4,
  verification_failed: 4,
  not_found: 10,
  ambiguous: 10,
  repository_foreign: 10,
  locked: 11,
  no_key: 12,
  needs_confirmation: 13,
  target_refused: 14,
  objective_missed: 15,
  environment: 16,
  no_space: 16,
  version_mismatch: 16,
  // storages
  storage_unavailable: 1,
  storage_denied: 1,
  storage_full: 1,
  object_exists: 1,
  object_missing: 1,
  too_few_copies: 1,
  // PostgreSQL
  postgres_unreachable: 1,
  postgres_denied: 1,
  database_missing: 10,
  postgres_failed: 1,
  tool_failed: 1,
  // alerts
  channel_failed: 1,
  // catalog
  catalog_unavailable: 1,
  conflict: 1,
  interrupted: 130,
  terminated: 143,
} as const satisfies Record<string, ExitCode>;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorParts {
  /** One sentence that names the next command or file. */
  hint?: string | undefined;
  cause?: unknown;
  /** Facts for programs, shown under --json. Never a secret. */
  details?: Record<string, unknown>;
}

/** The one error class. Message: what failed on which thing, lower case, no full stop. */
export class JBackupError extends Error {
  override readonly name = "JBackupError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: Record<string, unknown> | undefined;

  constructor(code: ErrorCode, message: string, parts: ErrorParts = {}) {
    super(message, parts.cause === undefined ? undefined : { cause: parts.cause });
    this.code = code;
    this.hint = parts.hint;
    this.details = parts.details;
  }

  get exitCode(): ExitCode {
    return ERROR_CODES[this.code];
  }
}

export const isJBackupError = (error: unknown, ...codes: ErrorCode[]): error is JBackupError =>
  error instanceof JBackupError && (codes.length === 0 || codes.includes(error.code));

/** The text of anything thrown, for messages that quote a cause. */
export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
