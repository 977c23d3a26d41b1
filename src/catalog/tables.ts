import type {
  Alert,
  AuditEntry,
  Backup,
  Copy,
  Delivery,
  Drill,
  JobRequest,
  Pin,
  Restore,
  Run,
  Verification,
} from "../domain/backup.js";
import type { StorageDay, StorageTotal } from "../domain/storageUse.js";

type Snake<Text extends string> = Text extends `${infer Letter}${infer Rest}`
  ? `${Letter extends Lowercase<Letter> ? Letter : `_${Lowercase<Letter>}`}${Snake<Rest>}`
  : "";

type Stored<Value> = Value extends boolean ? number : Value extends string | number | null ? Value : string;

/** A record as the database holds it: snake_case, truth as 0 and 1, lists and objects as JSON text. */
export type Row<Fields> = { [Key in keyof Fields & string as Snake<Key>]: Stored<Fields[Key]> };

type Kind<Value> = [Value] extends [string | null]
  ? "text" | "time"
  : [Value] extends [number | null]
    ? "number"
    : [Value] extends [boolean]
      ? "flag"
      : "json";

/** How each field is kept. A field added to a domain type does not compile until it stands here too. */
export type Layout<Fields> = { readonly [Key in keyof Fields & string]-?: Kind<Fields[Key]> };

/** The latest check of any copy stands in the row too, for those who ask the database directly. */
export type BackupHead = Omit<Backup, "copies"> & { verifiedAt: string | null };
export type CopyOfBackup = Copy & { backupId: string; position: number };

export interface AuditLink {
  sequence: number;
  previous_hash: string;
  hash: string;
}

export interface Tables {
  backups: Row<BackupHead>;
  copies: Row<CopyOfBackup>;
  restores: Row<Restore>;
  verifications: Row<Verification>;
  alerts: Row<Alert>;
  runs: Row<Run>;
  drills: Row<Drill>;
  audit: Row<AuditEntry> & AuditLink;
  pins: Row<Pin>;
  deliveries: Row<Delivery>;
  job_requests: Row<JobRequest>;
  storage_usage: Row<StorageTotal>;
  storage_days: Row<StorageDay & { storage: string }>;
}

export const backupLayout: Layout<BackupHead> = {
  id: "text",
  label: "text",
  kind: "text",
  method: "text",
  tenantId: "text",
  status: "text",
  createdAt: "time",
  finishedAt: "time",
  verifiedAt: "time",
  durationMs: "number",
  rawBytes: "number",
  storedBytes: "number",
  compressionRatio: "number",
  checksum: "text",
  parentId: "text",
  note: "text",
  createdBy: "text",
  jobId: "text",
  warnings: "json",
  metadata: "json",
};

export const copyLayout: Layout<CopyOfBackup> = {
  backupId: "text",
  position: "number",
  storage: "text",
  kind: "text",
  status: "text",
  path: "text",
  bytes: "number",
  verifiedAt: "time",
};

export const restoreLayout: Layout<Restore> = {
  id: "text",
  backupId: "text",
  mode: "text",
  status: "text",
  target: "text",
  targetTime: "text",
  tenantIds: "json",
  rowsRestored: "number",
  startedAt: "time",
  finishedAt: "time",
  durationMs: "number",
  tables: "json",
  warnings: "json",
  error: "text",
  reason: "text",
  initiatedBy: "text",
  jobId: "text",
  metadata: "json",
};

export const verificationLayout: Layout<Verification> = {
  id: "text",
  backupId: "text",
  storage: "text",
  level: "text",
  status: "text",
  checkedAt: "time",
  durationMs: "number",
  problems: "json",
  metadata: "json",
};

export const alertLayout: Layout<Alert> = {
  id: "text",
  type: "text",
  severity: "text",
  status: "text",
  fingerprint: "text",
  message: "text",
  hint: "text",
  backupId: "text",
  storage: "text",
  createdAt: "time",
  lastSeenAt: "time",
  occurrences: "number",
  channels: "json",
  sentAt: "time",
  acknowledgedAt: "time",
  acknowledgedBy: "text",
  resolvedAt: "time",
  resolvedBy: "text",
  note: "text",
  metadata: "json",
};

export const runLayout: Layout<Run> = {
  id: "text",
  job: "text",
  status: "text",
  startedAt: "time",
  finishedAt: "time",
  host: "text",
  pid: "number",
  exitCode: "number",
  error: "text",
  metadata: "json",
};

export const drillLayout: Layout<Drill> = {
  id: "text",
  runbook: "text",
  drill: "flag",
  status: "text",
  startedAt: "time",
  finishedAt: "time",
  rtoMs: "number",
  rpoMs: "number",
  steps: "json",
  initiatedBy: "text",
  metadata: "json",
};

export const auditLayout: Layout<AuditEntry> = {
  id: "text",
  at: "time",
  actor: "text",
  action: "text",
  subject: "text",
  detail: "json",
};

export const pinLayout: Layout<Pin> = {
  id: "text",
  backupId: "text",
  reason: "text",
  until: "time",
  createdAt: "time",
  createdBy: "text",
  removedAt: "time",
  removedBy: "text",
};

export const deliveryLayout: Layout<Delivery> = {
  id: "text",
  alertId: "text",
  channel: "text",
  event: "text",
  status: "text",
  payload: "json",
  attempts: "number",
  nextAttemptAt: "time",
  createdAt: "time",
  sentAt: "time",
  error: "text",
};

export const jobRequestLayout: Layout<JobRequest> = {
  id: "text",
  job: "text",
  args: "json",
  dueAt: "time",
  status: "text",
  createdAt: "time",
  createdBy: "text",
  claimedAt: "time",
  claimedBy: "text",
  finishedAt: "time",
  exitCode: "number",
  error: "text",
  signature: "json",
};
