/** The words of the catalog and of --json: backups, their copies, and what was done with them. */
export type BackupKind = "full" | "tenant" | "wal" | "config";
export type BackupMethod = "physical" | "logical";
export type BackupStatus = "in_progress" | "completed" | "verified" | "failed" | "interrupted";
export type CopyStatus = "stored" | "missing" | "damaged" | "removed";
export type StorageKind = "local" | "s3" | "b2";

export interface Copy {
  storage: string;
  kind: StorageKind;
  status: CopyStatus;
  /** The backup's folder inside the storage. */
  path: string;
  bytes: number;
  verifiedAt: string | null;
}

/** Times are ISO 8601 in UTC. */
export interface Backup {
  id: string;
  label: string;
  kind: BackupKind;
  method: BackupMethod | null;
  tenantId: string | null;
  status: BackupStatus;
  createdAt: string;
  finishedAt: string | null;
  durationMs: number | null;
  rawBytes: number;
  storedBytes: number;
  compressionRatio: number | null;
  /** SHA-256 of the signed manifest body, which in turn commits to every object. */
  checksum: string | null;
  parentId: string | null;
  copies: Copy[];
  note: string | null;
  createdBy: string;
  /** The run that made it: one run may make many backups. */
  jobId: string;
  warnings: string[];
  metadata: Record<string, unknown>;
}

/** Whether anything of it is left: cleanup may have removed every copy. */
export const isHeld = ({ copies }: Pick<Backup, "copies">): boolean =>
  copies.length === 0 || copies.some(({ status }) => status !== "removed");

export type RestoreMode = "full" | "merge" | "pitr";
export type RestoreStatus = "in_progress" | "completed" | "failed" | "cancelled";

export interface TableRestore {
  table: string;
  inserted: number;
  updated: number;
  deleted: number;
  unchanged: number;
}

export interface Restore {
  id: string;
  backupId: string;
  mode: RestoreMode;
  status: RestoreStatus;
  target: string;
  targetTime: string | null;
  tenantIds: string[];
  rowsRestored: number;
  startedAt: string;
  finishedAt: string | null;
  durationMs: number | null;
  tables: TableRestore[];
  warnings: string[];
  error: string | null;
  reason: string;
  initiatedBy: string;
  jobId: string;
  metadata: Record<string, unknown>;
}

export type VerificationLevel = "stored" | "sealed" | "content" | "restore";

export interface Verification {
  id: string;
  backupId: string | null;
  storage: string | null;
  level: VerificationLevel;
  status: "passed" | "failed";
  checkedAt: string;
  durationMs: number;
  problems: string[];
  metadata: Record<string, unknown>;
}

export type AlertType =
  | "BACKUP_FAILURE"
  | "SIZE_DEVIATION"
  | "DURATION_THRESHOLD"
  | "STORAGE_CAPACITY"
  | "INTEGRITY_FAILURE"
  | "RESTORE_FAILURE"
  | "STALE_BACKUP"
  | "WAL_GAP"
  | "COPY_MISSING"
  | "SECURITY"
  | "DRILL_OVERDUE"
  | "CHANNEL_FAILURE";
export type AlertSeverity = "info" | "warning" | "error" | "critical";
export type AlertStatus = "active" | "acknowledged" | "resolved";

export interface Alert {
  id: string;
  type: AlertType;
  severity: AlertSeverity;
  status: AlertStatus;
  /** One trouble, one alert: the same fingerprint updates the open alert instead of adding another. */
  fingerprint: string;
  message: string;
  hint: string | null;
  backupId: string | null;
  storage: string | null;
  createdAt: string;
  lastSeenAt: string;
  occurrences: number;
  channels: string[];
  sentAt: string | null;
  acknowledgedAt: string | null;
  acknowledgedBy: string | null;
  resolvedAt: string | null;
  resolvedBy: string | null;
  note: string | null;
  metadata: Record<string, unknown>;
}

/** One start of a job: what ran, where, how it ended. */
export interface Run {
  id: string;
  job: string;
  status: "running" | "succeeded" | "partial" | "failed" | "interrupted";
  startedAt: string;
  finishedAt: string | null;
  host: string;
  pid: number;
  exitCode: number | null;
  error: string | null;
  metadata: Record<string, unknown>;
}

export interface Drill {
  id: string;
  runbook: string;
  drill: boolean;
  status: "running" | "succeeded" | "failed" | "aborted";
  startedAt: string;
  finishedAt: string | null;
  rtoMs: number | null;
  rpoMs: number | null;
  steps: unknown[];
  initiatedBy: string;
  metadata: Record<string, unknown>;
}

export interface AuditEntry {
  id: string;
  at: string;
  actor: string;
  action: string;
  subject: string;
  detail: Record<string, unknown>;
}

/** As it stands in the log: each hash is over its entry and the hash before it. */
export interface ChainedEntry extends AuditEntry {
  sequence: number;
  previousHash: string;
  hash: string;
}

/** A backup that cleanup must leave alone, whatever the retention says. */
export interface Pin {
  id: string;
  backupId: string;
  reason: string;
  /** Null: until somebody takes it off. */
  until: string | null;
  createdAt: string;
  createdBy: string;
  removedAt: string | null;
  removedBy: string | null;
}

/** A notice is news and no trouble: it belongs to no alert. */
export type DeliveryEvent = "raised" | "reminder" | "resolved" | "test" | "notice";

/** One message on its way to one channel. Waiting ones are the outbox. */
export interface Delivery {
  id: string;
  alertId: string | null;
  channel: string;
  event: DeliveryEvent;
  status: "waiting" | "sent" | "failed";
  payload: Record<string, unknown>;
  attempts: number;
  nextAttemptAt: string | null;
  createdAt: string;
  sentAt: string | null;
  error: string | null;
}

/** A job that somebody wants to be run once, at a time of his choice. */
export interface JobRequest {
  id: string;
  job: string;
  /** The command line behind `jbackup`. */
  args: string[];
  dueAt: string;
  status: "waiting" | "claimed" | "done" | "failed" | "cancelled";
  createdAt: string;
  createdBy: string;
  claimedAt: string | null;
  claimedBy: string | null;
  finishedAt: string | null;
  exitCode: number | null;
  error: string | null;
  /** Of whoever wants it: a row in a database alone orders nothing. */
  signature: { signer: string; value: string } | null;
}
