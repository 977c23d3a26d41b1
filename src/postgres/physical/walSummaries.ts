import { setTimeout as pause } from "node:timers/promises";
import type { Session } from "../connection.js";
import { ChangedPages } from "./changedPages.js";

export interface WalRange {
  timeline: number;
  fromLsn: string;
  toLsn: string;
}

const WAIT_MS = 20_000;
const LOOK_EVERY_MS = 100;

/** The pages that the WAL of a range touched, from the server's summaries; null when they do not cover it. */
export async function changedSince(
  session: Session,
  range: WalRange,
  signal: AbortSignal,
): Promise<ChangedPages | null> {
  if (!(await isCovered(session, range, signal))) return null;
  const changed = new ChangedPages();
  const summaries = await session.rows<{ start: string; end: string }>(
    `select start_lsn::text as start, end_lsn::text as end from pg_available_wal_summaries()
      where tli = $1 and end_lsn > $2::pg_lsn and start_lsn < $3::pg_lsn order by start_lsn`,
    [range.timeline, range.fromLsn, range.toLsn],
  );
  for (const summary of summaries) {
    signal.throwIfAborted();
    const rows = await session.rows<Record<string, string>>(
      `select relfilenode::text as relation, reltablespace::text as tablespace, reldatabase::text as database,
              relforknumber::text as fork, relblocknumber::text as block, is_limit_block::text as limit
         from pg_wal_summary_contents($1::int8, $2::pg_lsn, $3::pg_lsn)`,
      [range.timeline, summary.start, summary.end],
    );
    for (const row of rows)
      changed.add({
        relation: row.relation ?? "0",
        tablespace: row.tablespace ?? "0",
        database: row.database ?? "0",
        fork: Number(row.fork),
        block: Number(row.block),
        isLimit: row.limit === "true",
      });
  }
  return changed;
}

/** The summaries must follow each other without a hole; the newest may still be on its way. */
async function isCovered(session: Session, range: WalRange, signal: AbortSignal): Promise<boolean> {
  for (let waited = 0; waited <= WAIT_MS; waited += LOOK_EVERY_MS) {
    signal.throwIfAborted();
    const [row] = await session.rows<{ covered: string; hole: string }>(
      `with known as (
         select start_lsn, end_lsn, lag(end_lsn) over (order by start_lsn) as before
           from pg_available_wal_summaries() where tli = $1 and end_lsn > $2::pg_lsn
       )
       select (coalesce(min(start_lsn) <= $2::pg_lsn and max(end_lsn) >= $3::pg_lsn, false))::text as covered,
              (coalesce(bool_or(before is not null and start_lsn > before), false)
               or coalesce(min(start_lsn) > $2::pg_lsn, false))::text as hole from known`,
      [range.timeline, range.fromLsn, range.toLsn],
    );
    if (row?.hole === "true") return false;
    if (row?.covered === "true") return true;
    await pause(LOOK_EVERY_MS);
  }
  return false;
}
