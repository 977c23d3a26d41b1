import fc from "fast-check";
import type { Layout } from "../../src/catalog/tables.js";
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
} from "../../src/domain/backup.js";

type Arbitraries<Record> = { [Key in keyof Record & keyof Layout<Record>]-?: fc.Arbitrary<Record[Key]> };
const record = <Record>(fields: Arbitraries<Record>): fc.Arbitrary<Record> =>
  fc.record(fields as never) as fc.Arbitrary<Record>;

/** Everything that both databases can hold: NUL is tested by itself. */
const text = fc.string({ unit: "binary", maxLength: 40 }).map((value) => value.replaceAll("\0", "0"));
const maybe = <Value>(values: fc.Arbitrary<Value>): fc.Arbitrary<Value | null> =>
  fc.option(values, { freq: 3 });
const time = fc
  .date({ min: new Date("1970-01-01T00:00:00Z"), max: new Date("9999-12-31T00:00:00Z"), noInvalidDate: true })
  .map((at) => at.toISOString());
const id = fc.uuid({ version: 7 });
const count = fc.maxSafeNat();
const span = fc.double({ min: 0, max: 1e15, noNaN: true, noDefaultInfinity: true });
const json = fc.jsonValue({ maxDepth: 3 }).map((value): unknown => JSON.parse(JSON.stringify(value)));
const metadata = fc
  .dictionary(text, json, { maxKeys: 4 })
  .map((value): Record<string, unknown> => JSON.parse(JSON.stringify(value)));
const texts = fc.array(text, { maxLength: 3 });

const copy = record<Copy>({
  storage: text,
  kind: fc.constantFrom("local", "s3", "b2"),
  status: fc.constantFrom("stored", "missing", "damaged", "removed"),
  path: text,
  bytes: count,
  verifiedAt: maybe(time),
});

export const anyBackup = record<Backup>({
  id,
  label: text,
  kind: fc.constantFrom("full", "tenant", "wal", "config"),
  method: maybe(fc.constantFrom("physical", "logical")),
  tenantId: maybe(text),
  status: fc.constantFrom("in_progress", "completed", "verified", "failed", "interrupted"),
  createdAt: time,
  finishedAt: maybe(time),
  durationMs: maybe(span),
  rawBytes: count,
  storedBytes: count,
  compressionRatio: maybe(span),
  checksum: maybe(text),
  parentId: maybe(id),
  copies: fc.uniqueArray(copy, { selector: (one) => one.storage, maxLength: 4 }),
  note: maybe(text),
  createdBy: text,
  jobId: text,
  warnings: texts,
  metadata,
} as Arbitraries<Backup>);

export const anyRestore = record<Restore>({
  id,
  backupId: id,
  mode: fc.constantFrom("full", "merge", "pitr"),
  status: fc.constantFrom("in_progress", "completed", "failed", "cancelled"),
  target: text,
  targetTime: maybe(fc.oneof(time, fc.constant("0/16B3748"))),
  tenantIds: texts,
  rowsRestored: count,
  startedAt: time,
  finishedAt: maybe(time),
  durationMs: maybe(span),
  tables: fc.array(
    fc.record({ table: text, inserted: count, updated: count, deleted: count, unchanged: count }),
    { maxLength: 3 },
  ),
  warnings: texts,
  error: maybe(text),
  reason: text,
  initiatedBy: text,
  jobId: text,
  metadata,
});

export const anyVerification = record<Verification>({
  id,
  backupId: maybe(id),
  storage: maybe(text),
  level: fc.constantFrom("stored", "sealed", "content", "restore"),
  status: fc.constantFrom("passed", "failed"),
  checkedAt: time,
  durationMs: span,
  problems: texts,
  metadata,
});

export const anyAlert = record<Alert>({
  id,
  type: fc.constantFrom("BACKUP_FAILURE", "STALE_BACKUP", "WAL_GAP", "SECURITY"),
  severity: fc.constantFrom("info", "warning", "error", "critical"),
  status: fc.constantFrom("active", "acknowledged", "resolved"),
  fingerprint: text,
  message: text,
  hint: maybe(text),
  backupId: maybe(id),
  storage: maybe(text),
  createdAt: time,
  lastSeenAt: time,
  occurrences: count,
  channels: texts,
  sentAt: maybe(time),
  acknowledgedAt: maybe(time),
  acknowledgedBy: maybe(text),
  resolvedAt: maybe(time),
  resolvedBy: maybe(text),
  note: maybe(text),
  metadata,
});

export const anyRun = record<Run>({
  id,
  job: text,
  status: fc.constantFrom("running", "succeeded", "partial", "failed", "interrupted"),
  startedAt: time,
  finishedAt: maybe(time),
  host: text,
  pid: count,
  exitCode: maybe(fc.nat({ max: 255 })),
  error: maybe(text),
  metadata,
});

export const anyDrill = record<Drill>({
  id,
  runbook: text,
  drill: fc.boolean(),
  status: fc.constantFrom("running", "succeeded", "failed", "aborted"),
  startedAt: time,
  finishedAt: maybe(time),
  rtoMs: maybe(span),
  rpoMs: maybe(span),
  steps: fc.array(json, { maxLength: 3 }),
  initiatedBy: text,
  metadata,
});

export const anyPin = record<Pin>({
  id,
  backupId: text,
  reason: text,
  until: maybe(time),
  createdAt: time,
  createdBy: text,
  removedAt: maybe(time),
  removedBy: maybe(text),
});

export const anyDelivery = record<Delivery>({
  id,
  alertId: maybe(text),
  channel: text,
  event: fc.constantFrom("raised", "reminder", "resolved", "test"),
  status: fc.constantFrom("waiting", "sent", "failed"),
  payload: metadata,
  attempts: fc.nat({ max: 1_000 }),
  nextAttemptAt: maybe(time),
  createdAt: time,
  sentAt: maybe(time),
  error: maybe(text),
});

export const anyJobRequest = record<JobRequest>({
  id,
  job: text,
  args: fc.array(text, { maxLength: 4 }),
  dueAt: time,
  status: fc.constantFrom("waiting", "claimed", "done", "failed", "cancelled"),
  createdAt: time,
  createdBy: text,
  claimedAt: maybe(time),
  claimedBy: maybe(text),
  finishedAt: maybe(time),
  exitCode: maybe(fc.nat({ max: 255 })),
  error: maybe(text),
  signature: maybe(record({ signer: text, value: text })),
});

export const anyAuditEntry = record<AuditEntry>({
  id,
  at: time,
  actor: text,
  action: text,
  subject: text,
  detail: metadata,
});

/** A plain backup to start from; `number` orders ids, labels and times. */
export function backupNumber(number: number, change: Partial<Backup> = {}): Backup {
  const padded = String(number).padStart(12, "0");
  const createdAt = new Date(Date.UTC(2026, 10, 20, 2) + number * 1_000).toISOString();
  const id = `019aa000-0000-7000-8000-${padded}`;
  return {
    id,
    label: `full-${padded}`,
    kind: "full",
    method: "physical",
    tenantId: null,
    status: "completed",
    createdAt,
    finishedAt: createdAt,
    durationMs: 1_500,
    rawBytes: 4_096,
    storedBytes: 1_024,
    compressionRatio: 4,
    checksum: "ab".repeat(32),
    parentId: null,
    copies: ["local", "r2", "b2"].map((storage) => ({
      storage,
      kind: "local",
      status: "stored",
      path: `backups/full/2026/11/${id}`,
      bytes: 1_024,
      verifiedAt: null,
    })),
    note: null,
    createdBy: "ops",
    jobId: "job-1",
    warnings: [],
    metadata: {},
    ...change,
  };
}
