import type { Backup } from "../../domain/backup.js";
import { listBackups } from "../../engine/history.js";
import { copiesText, painted } from "../backupText.js";
import { type CommandRun, withSiteToRead } from "../context.js";
import { choiceFlag, countFlag, textFlag, timeFlag } from "../flags.js";
import type { Paint } from "../output.js";
import { type Column, tableText } from "../table.js";
import { agoText, bytesText, durationText } from "../text.js";

const KINDS = ["full", "tenant", "wal", "config"] as const;
const STATUSES = ["in_progress", "completed", "verified", "failed", "interrupted"] as const;

const columnsAt = (now: Date, paint: Paint): Column<Backup>[] => [
  { title: "LABEL", value: ({ label }) => label, rank: 0 },
  {
    title: "STATUS",
    value: ({ status }) => status.replace("_", " "),
    rank: 1,
    paint: (text, { status }) => painted(text, status, paint),
  },
  { title: "WHEN", value: ({ createdAt }) => agoText(createdAt, now), rank: 2 },
  {
    title: "STORED",
    value: ({ storedBytes }) => (storedBytes === 0 ? "-" : bytesText(storedBytes)),
    align: "right",
    rank: 4,
  },
  {
    title: "TOOK",
    value: ({ durationMs }) => (durationMs === null ? "-" : durationText(durationMs)),
    align: "right",
    rank: 5,
  },
  { title: "METHOD", value: ({ method }) => method ?? "-", rank: 6 },
  { title: "COPIES", value: copiesText, rank: 3 },
  { title: "NOTE", value: ({ note }) => note ?? "", rank: 7, most: 40 },
];

export const run: CommandRun = (context, _args, options) => {
  const now = context.clock.now();
  const kind = choiceFlag(options, "kind", KINDS);
  const status = choiceFlag(options, "status", STATUSES);
  const tenantId = textFlag(options, "tenant");
  const since = timeFlag(options, "since", now);
  const until = timeFlag(options, "until", now);
  const limit = countFlag(options, "limit", 1, 100_000) ?? 50;
  return withSiteToRead(context, async (site) => {
    const backups = await listBackups(site, {
      limit,
      ...(kind ? { kind } : {}),
      ...(status ? { status: [status] } : {}),
      ...(tenantId ? { tenantId } : {}),
      ...(since ? { since } : {}),
      ...(until ? { until } : {}),
    });
    const { output } = context;
    const text =
      backups.length === 0
        ? "No backups match. jbackup backup full makes one; jbackup catalog rebuild finds those in the storages."
        : tableText(backups, columnsAt(now, output.paint), output.columns, output.paint.bold);
    output.answer(backups, text);
    return 0;
  });
};
