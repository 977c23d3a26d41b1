import type { Catalog } from "../../src/catalog/catalog.js";
import type { Alert, Backup, Restore, Run, Verification } from "../../src/domain/backup.js";
import { backupNumber } from "../contract/catalogRecords.js";

const BATCH = 5_000;
export const TENANTS = 2_000;
const idOf = (kind: string, number: number): string =>
  `019a${kind}000-0000-7000-8000-${String(number).padStart(12, "0")}`;
const timeOf = (number: number): string => backupNumber(number).createdAt;

/** One in fifty is a full backup, one in ten a pass over the WAL, the others are tenants'; one in five thousand failed. */
export function backupAt(number: number): Backup {
  if (number % 50 === 0)
    return backupNumber(number, { status: number % 5_000 === 0 ? "failed" : "verified" });
  if (number % 10 === 1) return backupNumber(number, { kind: "wal", method: null });
  return backupNumber(number, { kind: "tenant", method: null, tenantId: `t${number % TENANTS}` });
}

const restoreAt = (number: number): Restore => ({
  id: idOf("b", number),
  backupId: backupNumber(number).id,
  mode: "full",
  status: number % 100 === 0 ? "failed" : "completed",
  target: "shop",
  targetTime: null,
  tenantIds: [],
  rowsRestored: 1_000,
  startedAt: timeOf(number),
  finishedAt: timeOf(number + 60),
  durationMs: 60_000,
  tables: [],
  warnings: [],
  error: null,
  reason: "test",
  initiatedBy: "ops",
  jobId: "job",
  metadata: {},
});

const alertAt = (number: number): Alert => ({
  id: idOf("c", number),
  type: number % 2 === 0 ? "COPY_MISSING" : "STALE_BACKUP",
  severity: "error",
  status: number % 2_000 === 0 ? "active" : "resolved",
  fingerprint: `trouble:${number % 500}`,
  message: "a storage did not take its copy",
  hint: null,
  backupId: null,
  storage: "r2",
  createdAt: timeOf(number),
  lastSeenAt: timeOf(number),
  occurrences: 1,
  channels: [],
  sentAt: null,
  acknowledgedAt: null,
  acknowledgedBy: null,
  resolvedAt: null,
  resolvedBy: null,
  note: null,
  metadata: {},
});

const runAt = (number: number): Run => ({
  id: idOf("d", number),
  job: ["backup-wal", "backup-wal", "backup-wal", "backup-full", "verify"][number % 5] as string,
  status: number % 100 === 0 ? "failed" : "succeeded",
  startedAt: timeOf(number),
  finishedAt: timeOf(number + 10),
  host: "db1",
  pid: 1,
  exitCode: 0,
  error: null,
  metadata: {},
});

const checkAt = (number: number): Verification => ({
  id: idOf("e", number),
  backupId: backupNumber(number).id,
  storage: ["local", "r2", "b2"][number % 3] as string,
  level: number % 1_000 === 0 ? "restore" : "stored",
  status: number % 500 === 0 ? "failed" : "passed",
  checkedAt: timeOf(number),
  durationMs: 10,
  problems: [],
  metadata: {},
});

/** Years of a large site: so many backups, and thousands of everything else. */
export async function fill(catalog: Catalog, backups: number): Promise<void> {
  for (let first = 0; first < backups; first += BATCH)
    await catalog.saveBackups(Array.from({ length: BATCH }, (_, offset) => backupAt(first + offset)));
  const others = Math.min(5_000, backups / 20);
  for (let number = 0; number < others; number++) {
    await catalog.saveRestore(restoreAt(number));
    await catalog.saveAlert(alertAt(number));
    await catalog.saveRun(runAt(number));
    await catalog.saveVerification(checkAt(number));
  }
}

export interface Question {
  what: string;
  limitMs: number;
  ask(catalog: Catalog): Promise<unknown[]>;
}

const USABLE: Backup["status"][] = ["completed", "verified"];
const open: Alert["status"][] = ["active", "acknowledged"];

/** What status, list and the other commands ask, with what each may take. */
export const questions = (backups: number): Question[] => [
  { what: "list: the newest", limitMs: 50, ask: (it) => it.backups({ limit: 50 }) },
  { what: "list: the newest full ones", limitMs: 50, ask: (it) => it.backups({ kind: "full", limit: 50 }) },
  {
    what: "status: the newest usable full ones",
    limitMs: 50,
    ask: (it) => it.backups({ kind: "full", status: USABLE, limit: 100 }),
  },
  { what: "list: usable ones", limitMs: 50, ask: (it) => it.backups({ status: USABLE, limit: 50 }) },
  { what: "list: failed ones", limitMs: 50, ask: (it) => it.backups({ status: ["failed"], limit: 50 }) },
  { what: "unfinished ones", limitMs: 50, ask: (it) => it.backups({ status: ["in_progress"] }) },
  {
    what: "list: those of an hour",
    limitMs: 50,
    ask: (it) => it.backups({ since: timeOf(backups / 2), until: timeOf(backups / 2 + 100) }),
  },
  { what: "show: by its id", limitMs: 50, ask: (it) => it.backups({ reference: backupNumber(77_777).id }) },
  {
    what: "show: by its label",
    limitMs: 50,
    ask: (it) => it.backups({ reference: backupNumber(77_777).label }),
  },
  {
    what: "show: by the beginning",
    limitMs: 50,
    ask: (it) => it.backups({ reference: "full-00000007777", limit: 20 }),
  },
  { what: "status: what storages hold", limitMs: 50, ask: (it) => it.storageUse("2000-01-01") },
  { what: "tenants: those of one", limitMs: 30, ask: (it) => it.backups({ tenantId: "t7", limit: 50 }) },
  { what: "tenants: the last of one", limitMs: 30, ask: (it) => it.lastOfTenants(["t7"]) },
  {
    what: "tenants: the last of a hundred",
    limitMs: 30,
    ask: (it) => it.lastOfTenants(Array.from({ length: 100 }, (_, nth) => `t${nth}`)),
  },
  { what: "alerts: open ones", limitMs: 20, ask: (it) => it.alerts({ status: open, limit: 200 }) },
  { what: "alerts: the newest", limitMs: 20, ask: (it) => it.alerts({ limit: 50 }) },
  {
    what: "alerts: of one trouble",
    limitMs: 20,
    ask: (it) => it.alerts({ fingerprint: "trouble:7", status: open }),
  },
  { what: "restores: the newest", limitMs: 40, ask: (it) => it.restores({ limit: 50 }) },
  {
    what: "restores: completed ones",
    limitMs: 40,
    ask: (it) => it.restores({ status: ["completed"], limit: 20 }),
  },
  { what: "restores: failed ones", limitMs: 40, ask: (it) => it.restores({ status: ["failed"], limit: 50 }) },
  {
    what: "status: the last run of a job",
    limitMs: 20,
    ask: (it) => it.runs({ job: "backup-full", limit: 1 }),
  },
  {
    what: "status: the last good check of a storage",
    limitMs: 20,
    ask: (it) => it.verifications({ storage: "r2", status: "passed", limit: 1 }),
  },
];

/** Told, and not limited: all two thousand at once. */
export const EVERY_TENANT: Question = {
  what: `tenants: the last of all ${TENANTS}`,
  limitMs: Number.POSITIVE_INFINITY,
  ask: (it) => it.lastOfTenants({ after: null, limit: TENANTS }),
};

/** The median of seven, after one that fills the caches; the answers must be some. */
export async function medianMs(
  question: Question,
  catalog: Catalog,
): Promise<{ ms: number; answers: number }> {
  const times: number[] = [];
  let answers = 0;
  for (let turn = 0; turn < 8; turn++) {
    const begin = performance.now();
    answers = (await question.ask(catalog)).length;
    if (turn > 0) times.push(performance.now() - begin);
  }
  return { ms: times.sort((a, b) => a - b)[3] ?? Number.POSITIVE_INFINITY, answers };
}
