import { JBackupError } from "../../domain/errors.js";
import type { Session } from "../connection.js";

/** A slot that lives as long as the session: the server keeps the WAL that the backup needs until it is copied. */
export async function holdWal(session: Session): Promise<void> {
  const name = `jbackup_base_${process.pid}_${Math.trunc(process.uptime() * 1000)}`;
  try {
    await session.rows("select pg_create_physical_replication_slot($1, true, true)", [name]);
  } catch (error) {
    if (!/replication slots are in use|max_replication_slots/.test(String((error as Error).message)))
      throw error;
    throw new JBackupError("environment", "all replication slots of the server are in use", {
      cause: error,
      hint: "raise max_replication_slots, or drop a slot that nobody uses: select * from pg_replication_slots",
    });
  }
}

/** Not by pg_control, which lags behind: by the WAL file that is being written or replayed. */
export async function timelineOf(session: Session): Promise<number> {
  const [row] = await session.rows<{ timeline: string }>(
    `select (case when pg_is_in_recovery()
              then (select coalesce((select received_tli from pg_stat_wal_receiver), min_recovery_end_timeline, 0)
                      from pg_control_recovery())
              else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end)::text as timeline`,
  );
  const timeline = Number(row?.timeline);
  if (timeline > 0) return timeline;
  const [control] = await session.rows<{ timeline: string }>(
    "select timeline_id::text as timeline from pg_control_checkpoint()",
  );
  return Number(control?.timeline);
}

/** A backup that began on one timeline and ended on another holds WAL that does not fit together. */
export async function requireSameServer(
  session: Session,
  before: { inRecovery: boolean; timeline: number },
): Promise<void> {
  const [row] = await session.rows<{ recovery: string }>("select pg_is_in_recovery()::text as recovery");
  const isPromoted = before.inRecovery && row?.recovery === "false";
  const timeline = await timelineOf(session);
  if (!isPromoted && timeline === before.timeline) return;
  throw new JBackupError(
    "failed",
    isPromoted
      ? "the standby was promoted while it was backed up"
      : `the timeline changed from ${before.timeline} to ${timeline} during the backup`,
    { hint: "run the backup again" },
  );
}

/** How far a standby is behind what it has been sent, in seconds; null on a primary, or while nothing was replayed yet. */
export async function lagSeconds(session: Session): Promise<number | null> {
  const [row] = await session.rows<{ lag: string | null }>(
    `select (case when not pg_is_in_recovery() then null
                  when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0
                  else round(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::numeric, 1)
             end)::text as lag`,
  );
  return row?.lag === null || row?.lag === undefined ? null : Number(row.lag);
}

export const clockOf = async (session: Session): Promise<string> => {
  const [row] = await session.rows<{ at: string }>("select clock_timestamp()::text as at");
  return isoTime(row?.at ?? "");
};

/** PostgreSQL's text of a time as ISO 8601. */
export const isoTime = (text: string): string =>
  new Date(`${text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00")}`).toISOString();
