import type { Backup } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import { type BackupFilter, listBackups } from "../../engine/history.js";
import type { Site } from "../../engine/site.js";
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

/** A pass over the WAL every five minutes, or a thousand tenants, would hide everything else. */
async function withoutCrowds(site: Site, filter: BackupFilter & { limit: number }): Promise<Backup[]> {
  const kinds = KINDS.filter(
    (kind) => kind !== "wal" && (kind !== "tenant" || filter.tenantId !== undefined),
  );
  const found = await Promise.all(kinds.map((kind) => listBackups(site, { ...filter, kind })));
  return found
    .flat()
    .toSorted((a, b) => (a.createdAt < b.createdAt ? 1 : -1))
    .slice(0, filter.limit);
}

async function leftOut(site: Site, tenantId: string | undefined): Promise<string> {
  const [pass] = await listBackups(site, { kind: "wal", limit: 1 });
  const [tenant] = tenantId === undefined ? await listBackups(site, { kind: "tenant", limit: 1 }) : [];
  return [
    pass === undefined ? "" : "\nPasses over the WAL are left out: jbackup list --kind wal shows them",
    tenant === undefined ? "" : "\nTenants are left out: jbackup list --kind tenant shows them",
  ].join("");
}

export const run: CommandRun = (context, _args, options) => {
  const now = context.clock.now();
  const kind = choiceFlag(options, "kind", KINDS);
  const status = choiceFlag(options, "status", STATUSES);
  const tenantId = textFlag(options, "tenant");
  if (tenantId === "")
    throw new JBackupError("usage", "--tenant names nobody", {
      hint: "give an id: jbackup tenants list shows them; or leave it out",
    });
  const since = timeFlag(options, "since", now);
  const until = timeFlag(options, "until", now);
  const limit = countFlag(options, "limit", 1, 100_000) ?? 50;
  return withSiteToRead(context, async (site) => {
    const { output } = context;
    const filter = {
      limit,
      ...(status ? { status: [status] } : {}),
      ...(tenantId ? { tenantId } : {}),
      ...(since ? { since } : {}),
      ...(until ? { until } : {}),
    };
    const isForPeople = kind === undefined && !output.json;
    const backups = isForPeople
      ? await withoutCrowds(site, filter)
      : await listBackups(site, { ...filter, ...(kind ? { kind } : {}) });
    const table = tableText(backups, columnsAt(now, output.paint), output.columns, output.paint.bold);
    const text =
      backups.length === 0
        ? "No backups match. jbackup backup full makes one; jbackup catalog rebuild finds those in the storages."
        : `${table}${isForPeople ? await leftOut(site, tenantId) : ""}`;
    output.answer(backups, text);
    return 0;
  });
};
