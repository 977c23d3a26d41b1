import type { BackupMethod, StorageKind } from "./backup.js";
import type { ComparedTable } from "./census.js";
import { type Block, type Document, htmlText, plainText, spanText } from "./document.js";

/** Noted: looked at, with nothing to be held against it. Skipped: could not be looked at, and why. */
export type CheckStatus = "passed" | "failed" | "noted" | "skipped";

export interface Check {
  name: string;
  /** What is looked at, for somebody who does not know jbackup. */
  what: string;
  status: CheckStatus;
  expected: string;
  seen: string;
  durationMs: number;
}

/** A test restore, as those who ask for proof want it: what, when, from where, every check with what it expected and saw. */
export interface TestReport {
  kind: "test-restore";
  format: 1;
  id: string;
  site: string;
  host: string;
  by: string;
  jbackup: string;
  status: "passed" | "failed";
  startedAt: string;
  finishedAt: string;
  durationMs: number;
  backup: {
    id: string;
    label: string;
    method: BackupMethod;
    createdAt: string;
    finishedAt: string;
    /** SHA-256 of the signed manifest, which commits to every object of the backup. */
    manifestSha256: string;
    signer: string;
    madeWith: string;
    serverVersion: string;
    /** Older backups whose blocks it refers to. */
    buildsOn: string[];
    bytes: number;
  };
  recovery: {
    /** The last moment that the restored data is known to hold. */
    recoveredTo: string;
    lastCommitAt: string | null;
    replayedLsn: string | null;
    walFiles: number;
    serverVersion: string;
  } | null;
  /** What was read, and where. */
  storages: { name: string; kind: StorageKind; location: string; objects: number; bytes: number }[];
  objectives: { rtoMs: number; rpoMs: number };
  /** From the start until the database could be used. */
  rtoMs: number | null;
  /** How old the newest recovered work was when the test began. */
  rpoMs: number | null;
  missed: ("rto" | "rpo")[];
  /** Why an objective is not judged, if it is not. */
  unjudged: string | null;
  checks: Check[];
  tables: ComparedTable[];
  /** Whether `tables` were counted when the backup was made, or estimated by the server. */
  rowsRecorded: "counted" | "estimated" | "not";
  timeline: { at: string; what: string; durationMs: number }[];
  remarks: string[];
}

export interface SignedReport {
  report: TestReport;
  /** Over the report as JSON, in the domain "test restore". Null where this host holds no signing key. */
  signature: { signer: string; value: string } | null;
}

export const SIGNED_AS = "test restore";

export const signedText = (report: TestReport): string => JSON.stringify(report);

/** Longer than the objective is missed; what was not measured is not judged. */
export const missedOf = (
  measured: { rtoMs: number | null; rpoMs: number | null },
  objectives: { rtoMs: number; rpoMs: number },
): ("rto" | "rpo")[] =>
  (["rto", "rpo"] as const).filter((one) => (measured[`${one}Ms`] ?? 0) > objectives[`${one}Ms`]);

/** One failed check fails the test; what was only skipped or noted does not. */
export const statusOf = (checks: Pick<Check, "status">[]): TestReport["status"] =>
  checks.some(({ status }) => status === "failed") || !checks.some(({ status }) => status === "passed")
    ? "failed"
    : "passed";

function verdict(report: TestReport, which: "rto" | "rpo"): string {
  const measured = report[`${which}Ms`];
  if (measured === null) return "not measured";
  const isJudged = which === "rto" || report.unjudged === null;
  const how = isJudged
    ? report.missed.includes(which)
      ? "MISSED"
      : "met"
    : `not judged: ${report.unjudged}`;
  return `${spanText(measured)} (objective ${spanText(report.objectives[`${which}Ms`])}: ${how})`;
}

const grouped = (count: number): string => count.toLocaleString("en");
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
const many = (count: number, what: string): string => `${grouped(count)} ${what}${count === 1 ? "" : "s"}`;

const MOST_TABLES = 200;

const HOW_RECORDED: Record<TestReport["rowsRecorded"], string> = {
  counted: "Rows when the backup was made were counted in its own snapshot.",
  estimated:
    "Rows when the backup was made are the server's estimates: a physical backup counts none. Restored rows were counted, each table read whole.",
  not: "The backup recorded no rows. Restored rows were counted, each table read whole.",
};

function backupBlock({ backup, recovery }: TestReport): Block {
  return {
    kind: "list",
    items: [
      `Backup: ${backup.label}, ${backup.method}, id ${backup.id}`,
      `Made: ${backup.createdAt} to ${backup.finishedAt}, with ${backup.madeWith}, from PostgreSQL ${backup.serverVersion}`,
      `Size: ${megabytes(backup.bytes)} unpacked`,
      `SHA-256 of its signed manifest: ${backup.manifestSha256}`,
      `Manifest signed by: ${backup.signer}`,
      ...(backup.buildsOn.length === 0 ? [] : [`Builds on: ${backup.buildsOn.join(", ")}`]),
      ...(recovery === null
        ? []
        : [
            `Restored on: PostgreSQL ${recovery.serverVersion}, a server made for this test and removed after it`,
            recovery.walFiles === 0
              ? "WAL replayed: none is stored behind the backup"
              : `WAL replayed: ${many(recovery.walFiles, "file")}, up to ${recovery.replayedLsn ?? "its end"}`,
            `Newest commit found in it: ${recovery.lastCommitAt ?? "none, or not told"}`,
            `Holds everything up to: ${recovery.recoveredTo}`,
          ]),
    ],
  };
}

function rowsBlocks({ tables, rowsRecorded }: TestReport): Block[] {
  if (tables.length === 0) return [];
  const rest = tables.length - MOST_TABLES;
  const text = (rows: number | null): string => (rows === null ? "-" : grouped(rows));
  return [
    { kind: "heading", text: "Rows" },
    {
      kind: "list",
      items: [
        HOW_RECORDED[rowsRecorded],
        ...(rest > 0
          ? [`The first ${MOST_TABLES} tables are shown; the JSON form has all ${tables.length}.`]
          : []),
      ],
    },
    {
      kind: "table",
      head: ["Table", "Recorded", "Restored"],
      rows: tables.slice(0, MOST_TABLES).map((one) => [one.table, text(one.recorded), text(one.restored)]),
    },
  ];
}

export function documentOf({ report, signature }: SignedReport): Document {
  const failed = report.checks.filter(({ status }) => status === "failed").length;
  const remarks: Block[] =
    report.remarks.length === 0
      ? []
      : [
          { kind: "heading", text: "Remarks" },
          { kind: "list", items: report.remarks },
        ];
  return {
    title: `Test restore of ${report.site}: ${report.status.toUpperCase()}`,
    blocks: [
      {
        kind: "list",
        items: [
          `Test ${report.id}, on ${report.host}, by ${report.by}, with jbackup ${report.jbackup}`,
          `Began: ${report.startedAt}, ended: ${report.finishedAt} (${spanText(report.durationMs)})`,
          `Checks: ${report.checks.length}, of which ${failed === 0 ? "none" : failed} failed`,
          `Time until the database could be used (RTO): ${verdict(report, "rto")}`,
          `Age of the newest recovered work when the test began (RPO): ${verdict(report, "rpo")}`,
        ],
      },
      { kind: "heading", text: "What was restored" },
      backupBlock(report),
      { kind: "heading", text: "Where it was read" },
      {
        kind: "table",
        head: ["Storage", "Kind", "Place", "Objects", "Bytes"],
        rows: report.storages.map((one) => [
          one.name,
          one.kind,
          one.location,
          grouped(one.objects),
          grouped(one.bytes),
        ]),
      },
      { kind: "heading", text: "Checks" },
      {
        kind: "table",
        head: ["Check", "Result", "What", "Expected", "Seen", "Took"],
        rows: report.checks.map((check) => [
          check.name,
          check.status,
          check.what,
          check.expected,
          check.seen,
          spanText(check.durationMs),
        ]),
      },
      ...rowsBlocks(report),
      { kind: "heading", text: "Timeline" },
      {
        kind: "table",
        head: ["Began", "What", "Took"],
        rows: report.timeline.map(({ at, what, durationMs }) => [at, what, spanText(durationMs)]),
      },
      ...remarks,
      { kind: "heading", text: "Signature" },
      { kind: "list", items: signatureItems(signature) },
    ],
  };
}

const signatureItems = (signature: SignedReport["signature"]): string[] =>
  signature === null
    ? ["This report is not signed: the host that made it holds no signing key."]
    : [
        `Signed by: ${signature.signer} (Ed25519)`,
        `Signature: ${signature.value}`,
        "It is over the report in its JSON form, which stands in the .json file and in the page; jbackup verify --check-report FILE compares it.",
      ];

export const textOf = (signed: SignedReport): string => plainText(documentOf(signed));
export const htmlOf = (signed: SignedReport): string => htmlText(documentOf(signed), signed);
export const jsonOf = (signed: SignedReport): string => `${JSON.stringify(signed, null, 2)}\n`;
