import type { Backup, Pin } from "../../domain/backup.js";
import { type ShownBackup, showBackup } from "../../engine/history.js";
import { sizesText, statusText } from "../backupText.js";
import { type CommandContext, type CommandRun, withSiteToRead } from "../context.js";
import { tableText } from "../table.js";
import { agoText, bytesText, countedText, countText, durationText } from "../text.js";

const MOST_TABLES = 20;

/** "1.6 GB in 980 files, read by files from a standby, on top of full-20261120-020000". */
function clusterText({ metadata, parentId }: Backup): string {
  const size = `${bytesText(Number(metadata.clusterBytes))} in ${countedText(Number(metadata.files), "file")}`;
  const how = metadata.reader === "stream" ? "streamed" : "read as files";
  const on = parentId === null ? "stored whole" : `on top of backup ${parentId}`;
  return `${size}, ${how} from a ${String(metadata.takenOn)}, ${on}`;
}

const walText = ({ metadata }: Backup): string =>
  `${String(metadata.startLsn)} to ${String(metadata.endLsn)} on timeline ${String(metadata.timeline)}`;

const pinText = ({ reason, until }: Pin): string =>
  `"${reason}", ${until === null ? "until jbackup unpin" : `until ${until}`}`;

function shownText(shown: ShownBackup, context: CommandContext): string {
  const { backup } = shown;
  const { paint, columns } = context.output;
  const now = context.clock.now();
  const isWhole = backup.storedBytes > 0;
  const facts: [string, string | null][] = [
    ["id", backup.id],
    ["status", statusText(backup.status, paint)],
    ["kind", [backup.kind, backup.method].filter((part) => part !== null).join(", ")],
    ["made", `${backup.createdAt} (${agoText(backup.createdAt, now)}) by ${backup.createdBy}`],
    ["took", backup.durationMs === null ? null : durationText(backup.durationMs)],
    ["size", backup.storedBytes === 0 ? null : sizesText(backup)],
    ["cluster", backup.method === "physical" && isWhole ? clusterText(backup) : null],
    ["wal", backup.method === "physical" && isWhole ? walText(backup) : null],
    ["checksum", backup.checksum],
    ["note", backup.note],
    ["pinned", shown.pin === null ? null : pinText(shown.pin)],
    ["error", typeof backup.metadata.error === "string" ? backup.metadata.error : null],
  ];
  const copies = tableText(
    backup.copies,
    [
      { title: "STORAGE", value: ({ storage }) => storage, rank: 0 },
      { title: "STATUS", value: ({ status }) => status, rank: 1, paint: (text) => statusText(text, paint) },
      { title: "BYTES", value: ({ bytes }) => bytesText(bytes), align: "right", rank: 3 },
      {
        title: "VERIFIED",
        value: ({ verifiedAt }) => (verifiedAt === null ? "never" : agoText(verifiedAt, now)),
        rank: 2,
      },
      { title: "PATH", value: ({ path }) => path, rank: 4 },
    ],
    columns,
  );
  const largest = (shown.tables ?? []).toSorted((a, b) => b.rows - a.rows);
  const tables = tableText(
    largest.slice(0, MOST_TABLES),
    [
      { title: "TABLE", value: ({ table }) => table, rank: 0 },
      { title: "ROWS", value: ({ rows }) => countText(rows), align: "right", rank: 1 },
    ],
    columns,
  );
  const rest =
    largest.length > MOST_TABLES ? `\n... and ${largest.length - MOST_TABLES} more (--json shows all)` : "";
  const part = (title: string, text: string): string[] => (text === "" ? [] : ["", paint.bold(title), text]);
  return [
    paint.bold(backup.label),
    ...facts.filter(([, value]) => value !== null).map(([name, value]) => `  ${name.padEnd(9)} ${value}`),
    ...part("Copies", backup.copies.length === 0 ? "" : copies),
    ...part(
      "Contents",
      (shown.contents ?? []).map(({ name, bytes }) => `  ${name}  ${bytesText(bytes)}`).join("\n"),
    ),
    ...part("Tables", largest.length === 0 ? "" : tables + rest),
    ...part("Warnings", backup.warnings.map((warning) => `  ${warning}`).join("\n")),
    ...part(
      "Verifications",
      shown.verifications
        .map((one) => `  ${one.checkedAt}  ${one.level}  ${statusText(one.status, paint)}`)
        .join("\n"),
    ),
    ...part(
      "Restores",
      shown.restores
        .map(
          (one) =>
            `  ${one.startedAt}  ${one.mode} into ${one.target}  ${statusText(one.status, paint)}  "${one.reason}"`,
        )
        .join("\n"),
    ),
    ...part(
      "Alerts",
      shown.alerts
        .map((one) => `  ${one.createdAt}  ${one.severity}  ${statusText(one.status, paint)}  ${one.message}`)
        .join("\n"),
    ),
  ].join("\n");
}

export const run: CommandRun = (context, args) =>
  withSiteToRead(context, async (site) => {
    const shown = await showBackup(site, args[0] ?? "latest");
    const { backup, ...rest } = shown;
    context.output.answer({ ...backup, ...rest }, shownText(shown, context));
    return 0;
  });
