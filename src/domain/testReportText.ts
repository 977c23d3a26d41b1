import { type Block, type Document, htmlText, plainText, spanText } from "./document.js";
import type { SignedReport, TestReport } from "./testReport.js";

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
        kind: "list",
        items: [
          "Sealed objects of backups and WAL; each was opened, which proves that it is whole and ours.",
        ],
      },
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
