import { statfs } from "node:fs/promises";
import { isJBackupError } from "../domain/errors.js";
import type { Session } from "./connection.js";

export interface WalHealth {
  /** Null when there is no such slot. */
  slot: { name: string; isActive: boolean; lagBytes: number; status: string } | null;
  /** What archive_command does, where one is set. */
  archiver: {
    lastArchived: string | null;
    lastArchivedAt: string | null;
    failures: number;
    lastFailed: string | null;
    lastFailedAt: string | null;
  } | null;
  pgWal: { bytes: number; limitBytes: number | null; filledPercent: number | null };
}

/** How the server is doing with the WAL that it keeps for us. */
export async function walHealth(
  session: Session,
  slot: string,
  walDirectory: string | null,
): Promise<WalHealth> {
  const [row] = await session.rows<Record<string, string | null>>(
    `with here as (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as lsn)
     select s.slot_name as name, s.active::text as active, s.wal_status as status,
            (here.lsn - s.restart_lsn)::bigint::text as lag,
            (select setting::bigint * 1024 * 1024 from pg_settings where name = 'max_slot_wal_keep_size' and setting::bigint >= 0)::text as most,
            current_setting('archive_mode') as mode
       from here left join pg_replication_slots s on s.slot_name = $1`,
    [slot],
  );
  const lagBytes = Number(row?.lag ?? 0);
  const bytes = await walBytes(session);
  const most = row?.most === null || row?.most === undefined ? null : Number(row.most);
  const free = walDirectory === null ? null : await freeBytes(walDirectory);
  const limitBytes = most ?? (free === null ? null : bytes + free);
  const used = most === null ? bytes : lagBytes;
  return {
    slot: row?.name
      ? { name: row.name, isActive: row.active === "true", lagBytes, status: row.status ?? "unknown" }
      : null,
    archiver: row?.mode === "off" ? null : await archiver(session),
    pgWal: {
      bytes,
      limitBytes,
      filledPercent: limitBytes === null || limitBytes === 0 ? null : Math.round((used / limitBytes) * 100),
    },
  };
}

/** The right to look is checked before anything of a statement runs, so this one stands alone; 0 for those who have it not. */
async function walBytes(session: Session): Promise<number> {
  try {
    const [row] = await session.rows<{ bytes: string | null }>(
      "select sum(size)::text as bytes from pg_ls_waldir()",
    );
    return Number(row?.bytes ?? 0);
  } catch (error) {
    if (isJBackupError(error, "postgres_denied")) return 0;
    throw error;
  }
}

async function freeBytes(directory: string): Promise<number> {
  const facts = await statfs(directory);
  return facts.bavail * facts.bsize;
}

const utc = (column: "last_archived_time" | "last_failed_time"): string =>
  `to_char(${column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

async function archiver(session: Session): Promise<WalHealth["archiver"]> {
  const [row] = await session.rows<Record<string, string | null>>(
    `select last_archived_wal as archived, ${utc("last_archived_time")} as archived_at, failed_count::text as failures,
            last_failed_wal as failed, ${utc("last_failed_time")} as failed_at from pg_stat_archiver`,
  );
  return {
    lastArchived: row?.archived ?? null,
    lastArchivedAt: row?.archived_at ?? null,
    failures: Number(row?.failures ?? 0),
    lastFailed: row?.failed ?? null,
    lastFailedAt: row?.failed_at ?? null,
  };
}
