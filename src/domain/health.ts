import { isAtLeast } from "./alertMessage.js";
import type { AlertSeverity, AlertType } from "./backup.js";
import type { Fullness } from "./storageUse.js";
import { lostText } from "./walWindow.js";

/** What the health of a site is judged by. Null: not known, which is never held against it. */
export interface HealthFacts {
  catalogError: string | null;
  /** What makes it usable again. */
  catalogRemedy: string;
  postgresError: string | null;
  jobs: JobFacts[];
  /** Since its newest usable full backup; null where there is none. */
  fullAgeMs: number | null;
  minCopies: number;
  storages: StorageFacts[];
  /** How much would be lost now, where WAL is archived. */
  rpoMs: number | null;
  rpoObjectiveMs: number;
  rtoMs: number | null;
  rtoObjectiveMs: number;
  /** Of the WAL, behind the newest base: from there on nothing can be reached. */
  hole: string | null;
  /** Moments that WAL is missing for, while what follows them can be reached. */
  lost: { from: string; to: string }[];
  /** Two servers that write on two timelines. */
  rival: string | null;
  /** The newer timeline, to which the newest full backup does not lead. */
  leftFor: number | null;
  /** Whether there are records of what was verified and tested: without the catalog there are none. */
  isRecordKnown: boolean;
  testRestoreAgeMs: number | null;
  alerts: { type: AlertType; severity: AlertSeverity; message: string }[];
}

export interface JobFacts {
  name: string;
  lastFailed: string | null;
  /** When it should have run and did not. */
  missedAt: string | null;
  command: string;
}

export interface StorageFacts {
  name: string;
  isLocal: boolean;
  error: string | null;
  /** Of the newest full backup; null where there is none yet. */
  hasNewestFull: boolean | null;
  stored: number;
  missing: number;
  damaged: number;
  verifiedAgeMs: number | null;
  fullness: Fullness;
}

export type HealthState = "ok" | "warning" | "critical";

export interface HealthReason {
  code: string;
  points: number;
  /** info costs points, but is nothing to wake anybody for. */
  severity: "info" | "warning" | "critical";
  message: string;
  /** The command that comes next. */
  command: string | null;
}

export interface Health {
  score: number;
  state: HealthState;
  /** What costs most first. */
  reasons: HealthReason[];
}

type Judge = (facts: HealthFacts) => (HealthReason | null)[];

const DAY_MS = 86_400_000;
const VERIFY_WITHIN_MS = 31 * DAY_MS;
const TEST_RESTORE_WITHIN_MS = 45 * DAY_MS;

const reason = (
  severity: HealthReason["severity"],
  points: number,
  code: string,
  message: string,
  command: string | null = null,
): HealthReason => ({ code, points, severity, message, command });

const days = (ms: number): string => `${Math.floor(ms / DAY_MS)} days`;
const minutes = (ms: number): string =>
  ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`;

const backups: Judge = ({ fullAgeMs, jobs, catalogError }) => [
  // without the catalog or a manifest nothing is known
  fullAgeMs === null && catalogError === null
    ? reason("critical", 60, "never_backed_up", "there is no usable full backup", "jbackup backup full")
    : null,
  ...jobs.flatMap(({ name, lastFailed, missedAt, command }) => {
    const isVital = name === "full" || name === "wal";
    return [
      lastFailed === null
        ? null
        : reason(
            isVital ? "critical" : "warning",
            isVital ? 25 : 10,
            `failed:${name}`,
            `the last ${name} run failed: ${lastFailed}`,
            command,
          ),
      missedAt === null
        ? null
        : reason(
            isVital ? "critical" : "warning",
            isVital ? 30 : 10,
            `missed:${name}`,
            `${name} should have run at ${missedAt} and did not`,
            command,
          ),
    ];
  }),
];

const copies: Judge = ({ storages, minCopies }) => {
  const judged = storages.filter(({ hasNewestFull }) => hasNewestFull !== null);
  const holding = judged.filter(({ hasNewestFull }) => hasNewestFull).length;
  const tooFew =
    judged.length > 0 && holding < minCopies
      ? reason(
          "critical",
          35,
          "too_few_copies",
          `the newest full backup is in ${holding} of the ${minCopies} storages that it must be in`,
          "jbackup verify --all --heal",
        )
      : null;
  return [
    tooFew,
    ...storages.flatMap(({ name, missing, damaged }) => [
      missing === 0
        ? null
        : reason(
            "warning",
            10,
            `missing:${name}`,
            `${missing} ${missing === 1 ? "copy is" : "copies are"} missing in ${name}`,
            "jbackup verify --all --heal",
          ),
      damaged === 0
        ? null
        : reason(
            "critical",
            25,
            `damaged:${name}`,
            `${damaged} ${damaged === 1 ? "copy is" : "copies are"} damaged in ${name}`,
            "jbackup verify --all --heal",
          ),
    ]),
    storages.length > 0 && storages.every(({ isLocal }) => isLocal)
      ? reason("info", 5, "one_place", "no copy is kept off this host: add a storage to jbackup.yaml")
      : null,
  ];
};

const storagesThemselves: Judge = ({ storages }) =>
  storages.flatMap(({ name, error, fullness }) => [
    error === null
      ? null
      : reason(
          "warning",
          12,
          `unreachable:${name}`,
          `${name} cannot be read: ${error}`,
          "jbackup storages check",
        ),
    fullness === "fine"
      ? null
      : reason(
          fullness === "filling" ? "warning" : "critical",
          fullness === "filling" ? 10 : 25,
          `filling:${name}`,
          `${name} ${fullness === "filling" ? "is filling up" : "is nearly full"}`,
          "jbackup cleanup --dry-run",
        ),
  ]);

const evidence: Judge = ({ storages, testRestoreAgeMs, fullAgeMs, isRecordKnown }) => {
  if (fullAgeMs === null || !isRecordKnown) return [];
  const holding = storages.filter(({ stored }) => stored > 0);
  const never = holding.filter(({ verifiedAgeMs }) => verifiedAgeMs === null).map(({ name }) => name);
  return [
    never.length === 0
      ? null
      : reason(
          "info",
          4 * never.length,
          "never_verified",
          `nothing in ${never.join(", ")} was ever verified`,
          "jbackup verify --all",
        ),
    ...holding.map(({ name, verifiedAgeMs }) => {
      if (verifiedAgeMs === null || verifiedAgeMs <= VERIFY_WITHIN_MS) return null;
      const message = `nothing in ${name} was verified for ${days(verifiedAgeMs)}`;
      return reason("warning", 8, `unverified:${name}`, message, "jbackup verify --all");
    }),
    testRestoreAgeMs === null
      ? reason(
          "info",
          5,
          "never_test_restored",
          "no restore was ever tested",
          "jbackup verify --level restore",
        )
      : testRestoreAgeMs <= TEST_RESTORE_WITHIN_MS
        ? null
        : reason(
            "warning",
            8,
            "test_restore_old",
            `no restore was tested for ${days(testRestoreAgeMs)}`,
            "jbackup verify --level restore",
          ),
  ];
};

const recoveryWindow: Judge = ({ hole, lost, rival, leftFor }) => [
  rival === null ? null : reason("critical", 25, "two_timelines", rival, "jbackup wal status"),
  hole === null
    ? null
    : reason(
        "critical",
        25,
        "wal_hole",
        `WAL is missing behind the newest full backup (${hole}): moments behind cannot be reached`,
        "jbackup backup full",
      ),
  ...lost.map((span) => reason("info", 1, `lost:${span.from}`, lostText(span))),
  leftFor === null
    ? null
    : reason(
        "warning",
        8,
        "left_timeline",
        `the server goes on on timeline ${leftFor}, which left before the newest full backup ended: recoveries begin from an older one`,
        "jbackup backup full",
      ),
];

const objectives: Judge = ({ rpoMs, rpoObjectiveMs, rtoMs, rtoObjectiveMs }) => [
  rpoMs === null || rpoMs <= rpoObjectiveMs
    ? null
    : rpoMs <= 2 * rpoObjectiveMs
      ? reason(
          "info",
          4,
          "rpo",
          `the last ${minutes(rpoMs)} would be lost now, more than ${minutes(rpoObjectiveMs)}`,
          "jbackup backup wal",
        )
      : reason(
          "critical",
          25,
          "rpo",
          `the last ${minutes(rpoMs)} would be lost now; the objective is ${minutes(rpoObjectiveMs)}`,
          "jbackup backup wal",
        ),
  rtoMs === null || rtoMs <= rtoObjectiveMs
    ? null
    : reason(
        "warning",
        10,
        "rto",
        `the last recovery took ${minutes(rtoMs)}; the objective is ${minutes(rtoObjectiveMs)}`,
        "jbackup dr list",
      ),
];

const parts: Judge = ({ catalogError, catalogRemedy, postgresError }) => [
  catalogError === null ? null : reason("warning", 25, "catalog", catalogError, catalogRemedy),
  postgresError === null
    ? null
    : reason("warning", 15, "postgres", `PostgreSQL cannot be asked: ${postgresError}`, "jbackup wal status"),
];

/** Troubles that a reason above tells already, by its code. */
const TOLD: Partial<Record<AlertType, RegExp>> = {
  BACKUP_FAILURE: /^failed:/,
  STALE_BACKUP: /^(missed:|rpo$)/,
  COPY_MISSING: /^(missing:|too_few|unreachable:)/,
  INTEGRITY_FAILURE: /^(damaged:|two_timelines$)/,
  STORAGE_CAPACITY: /^filling:/,
  WAL_GAP: /^wal_hole$/,
  DRILL_OVERDUE: /^missed:drill$/,
};
const ALERT_POINTS: Record<AlertSeverity, number> = { info: 1, warning: 4, error: 10, critical: 20 };

/** What a reason has told already costs only what the alert would cost beyond it: no trouble makes a site healthier. */
function fromAlerts({ alerts }: HealthFacts, told: HealthReason[]): HealthReason[] {
  return alerts.flatMap(({ type, severity, message }) => {
    const same = told.filter(({ code }) => TOLD[type]?.test(code)).map(({ points }) => points);
    const points = ALERT_POINTS[severity] - Math.max(0, ...same);
    if (points <= 0) return [];
    const grade = severity === "critical" ? "critical" : isAtLeast(severity, "warning") ? "warning" : "info";
    return [reason(grade, points, `alert:${type}`, message, "jbackup alerts")];
  });
}

const JUDGES: Judge[] = [backups, copies, storagesThemselves, evidence, recoveryWindow, objectives, parts];

/** 100 where nothing is wrong; every reason costs its points, and none is hidden by another. */
export function healthOf(facts: HealthFacts): Health {
  const found = JUDGES.flatMap((judge) => judge(facts)).filter((one) => one !== null);
  const reasons = [...found, ...fromAlerts(facts, found)].sort(
    (a, b) => weight(b) - weight(a) || b.points - a.points,
  );
  const lost = reasons.reduce((sum, { points }) => sum + points, 0);
  return { score: Math.max(0, 100 - lost), state: stateOf(reasons), reasons };
}

const WEIGHTS: Record<HealthReason["severity"], number> = { info: 0, warning: 1, critical: 2 };
const weight = ({ severity }: HealthReason): number => WEIGHTS[severity];

const stateOf = (reasons: HealthReason[]): HealthState =>
  reasons.some(({ severity }) => severity === "critical")
    ? "critical"
    : reasons.some(({ severity }) => severity === "warning")
      ? "warning"
      : "ok";

/** The one command to type now: that of the worst reason which has one. */
export const nextStep = ({ reasons }: Health): { command: string; why: string } | null => {
  const worst = reasons.find(({ command }) => command !== null);
  return worst?.command ? { command: worst.command, why: worst.message } : null;
};
