import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import { readInto } from "../sys/readInto.js";
import type { Session } from "./connection.js";
import { serverFacts } from "./facts.js";
import { isReadableHere } from "./physical/dataDirectory.js";

export interface WalServer {
  systemId: string;
  segmentBytes: number;
  inRecovery: boolean;
  /** The folder of the WAL, when this host can read it. */
  walDirectory: string | null;
}

/** What archiving needs to know of the server, and whether it may. */
export async function walServer(session: Session, dataDirectory: string | "auto"): Promise<WalServer> {
  const server = await serverFacts(session);
  const [row] = await session.rows<Record<string, string | null>>(
    `select (select rolsuper or rolreplication from pg_roles where rolname = current_user)::text as replication,
            case when pg_has_role(current_user, 'pg_read_all_settings', 'member') then current_setting('data_directory') end as directory,
            extract(epoch from pg_postmaster_start_time())::bigint::text as started,
            (select setting from pg_settings where name = 'wal_segment_size') as segment,
            current_setting('wal_level') as level, current_setting('max_wal_senders') as senders`,
  );
  if (row?.replication !== "true")
    throw new JBackupError("environment", `the role "${session.address.user}" has no replication right`, {
      hint: `alter role ${session.address.user} replication, or name another role in database.url`,
    });
  if (row.level === "minimal")
    throw new JBackupError("environment", "wal_level is minimal: such WAL cannot be archived", {
      hint: "set wal_level = replica in postgresql.conf and restart the server",
    });
  if (row.senders === "0")
    throw new JBackupError("environment", "max_wal_senders is 0: the server sends no WAL to anybody", {
      hint: "set max_wal_senders = 10 in postgresql.conf and restart the server",
    });
  if (server.systemId === null)
    throw new JBackupError("postgres_denied", "the role may not read the cluster's identifier", {
      hint: "grant pg_monitor to it",
    });
  const directory = dataDirectory === "auto" ? (row.directory ?? null) : dataDirectory;
  const isHere =
    directory !== null && (await isReadableHere(directory, server.systemId, Number(row.started)));
  return {
    systemId: server.systemId,
    segmentBytes: Number(row.segment),
    inRecovery: server.inRecovery,
    walDirectory: isHere ? join(directory, "pg_wal") : null,
  };
}

export interface Slot {
  restartLsn: string;
  isActive: boolean;
}

export async function findSlot(session: Session, name: string): Promise<Slot | null> {
  const [row] = await session.rows<Record<string, string | null>>(
    "select restart_lsn::text as lsn, active::text as active, slot_type as type, wal_status as status from pg_replication_slots where slot_name = $1",
    [name],
  );
  if (row === undefined) return null;
  if (row.type !== "physical")
    throw new JBackupError("environment", `the replication slot ${name} is not a physical one`, {
      hint: `drop it if nobody uses it: select pg_drop_replication_slot('${name}')`,
    });
  if (row.lsn === null || row.lsn === undefined || row.status === "lost") return null;
  return { restartLsn: row.lsn, isActive: row.active === "true" };
}

/** Made once; from then on the server keeps WAL until it is stored. A slot that lost its WAL is made anew. */
export async function makeSlot(session: Session, name: string): Promise<Slot> {
  try {
    await session.rows(
      "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
      [name],
    );
    await session.rows("select pg_create_physical_replication_slot($1, true)", [name]);
  } catch (error) {
    if (!/replication slots are in use|max_replication_slots/.test(String((error as Error).message)))
      throw error;
    throw new JBackupError("environment", "all replication slots of the server are in use", {
      cause: error,
      hint: "raise max_replication_slots, or drop a slot that nobody uses: select * from pg_replication_slots",
    });
  }
  const made = await findSlot(session, name);
  if (made === null) throw new JBackupError("bug", `the slot ${name} is not there after it was made`);
  return made;
}

/** Segments that the server still has; null when the role may not look. */
export async function segmentsOnServer(session: Session): Promise<Set<string> | null> {
  try {
    const rows = await session.rows<{ name: string }>(
      "select name from pg_ls_waldir() where name ~ '^[0-9A-F]{24}$'",
    );
    return new Set(rows.map(({ name }) => name));
  } catch (error) {
    if (isJBackupError(error, "postgres_denied")) return null;
    throw error;
  }
}

/** Never back: a slot that was made anew may be ahead of what is archived at the moment. */
export const advanceSlot = async (session: Session, name: string, to: string): Promise<void> => {
  await session.rows(
    "select pg_replication_slot_advance(slot_name, $2::pg_lsn) from pg_replication_slots where slot_name = $1 and restart_lsn < $2::pg_lsn",
    [name, to],
  );
};

/** The end of everything that is committed by now, put where a recovery can stop behind it. */
export async function endOfWal(
  session: Session,
  server: WalServer,
): Promise<{ lsn: string; timeline: number }> {
  if (server.inRecovery) {
    const [row] = await session.rows<Record<string, string>>(
      `select coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text as lsn,
              coalesce((select received_tli from pg_stat_wal_receiver), (select timeline_id from pg_control_checkpoint()))::text as timeline`,
    );
    return { lsn: row?.lsn ?? "0/0", timeline: Number(row?.timeline) };
  }
  await heartbeat(session);
  const [row] = await session.rows<Record<string, string>>(
    "select pg_switch_wal()::text as lsn, pg_walfile_name(pg_current_wal_insert_lsn()) as file",
  );
  return { lsn: row?.lsn ?? "0/0", timeline: Number.parseInt(row?.file?.slice(0, 8) ?? "1", 16) };
}

/** A commit that changes nothing: a recovery to a time before it can see that the time was reached. */
export async function heartbeat(session: Session): Promise<void> {
  await session.rows("select txid_current()");
}

/** Whether our receiver is one that commits wait for. */
export async function isSynchronous(session: Session, applicationName: string): Promise<boolean> {
  const [row] = await session.rows<{ many: string }>(
    "select count(*)::text as many from pg_stat_replication where application_name = $1 and sync_state in ('sync', 'quorum')",
    [applicationName],
  );
  return row?.many !== "0";
}

/** Finished segments that lie in the folder, among those wanted. */
export async function segmentsThere(directory: string): Promise<Set<string>> {
  return new Set(
    (await readdir(directory)).filter((name) => /^[0-9A-F]{24}$|^[0-9A-F]{8}\.history$/.test(name)),
  );
}

/** Whole into the buffer's beginning; null when it has gone meanwhile. */
export async function readWalFile(directory: string, name: string, into: Buffer): Promise<Buffer | null> {
  try {
    const file = await open(join(directory, name));
    try {
      return into.subarray(0, await readInto(file, into, 0));
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
