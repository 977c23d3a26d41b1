import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { Session } from "../connection.js";
import type { ChangedPages } from "./changedPages.js";
import { type ClusterFacts, clusterFacts } from "./clusterFacts.js";
import { isReadableHere } from "./dataDirectory.js";
import { filesOfDirectory } from "./localFiles.js";
import type { BackupFiles } from "./sourceFile.js";
import { changedSince, type WalRange } from "./walSummaries.js";

/** A cluster that is being backed up: between start and stop its files may be read while they change. */
export interface BaseBackup {
  readonly cluster: ClusterFacts;
  readonly timeline: number;
  readonly startLsn: string;
  readonly startTime: string;
  readonly takenOn: "primary" | "standby";
  readonly reader: "files" | "stream";
  readonly files: BackupFiles;
  /** The pages that changed in a range of WAL, where the server keeps summaries of it; null when it does not. */
  changedSince(range: WalRange, signal: AbortSignal): Promise<ChangedPages | null>;
  /** Ends the backup on the server. After it the WAL that it needs is there to be read. */
  stop(): Promise<StoppedBackup>;
  /** Ends everything, whatever state it is in. */
  close(): Promise<void>;
}

export interface StoppedBackup {
  endLsn: string;
  endTime: string;
  backupLabel: string;
}

export interface BaseBackupSettings {
  label: string;
  dataDirectory: string | "auto";
  connect(): Promise<Session>;
}

/** Begins a backup. The session stays open until the end: the server gives a backup up when its session goes. */
export async function openBaseBackup(settings: BaseBackupSettings): Promise<BaseBackup> {
  const session = await settings.connect();
  try {
    const cluster = await clusterFacts(session);
    const directory = settings.dataDirectory === "auto" ? cluster.dataDirectory : settings.dataDirectory;
    const isHere = await isReadableHere(directory, cluster.server.systemId, cluster.startedAtSeconds);
    if (!isHere) throw notHere(directory, settings.dataDirectory === "auto");
    return await startOnFiles(session, cluster, directory, settings.label);
  } catch (error) {
    await session.close();
    throw error;
  }
}

const notHere = (directory: string, isFromServer: boolean): JBackupError =>
  new JBackupError(
    "environment",
    `the data directory ${directory} cannot be read here, or is not that of the server`,
    {
      hint: isFromServer
        ? "run jbackup on the server's host as a user who may read it, such as postgres"
        : "check database.dataDirectory in jbackup.yaml, or set it to auto",
    },
  );

async function startOnFiles(
  session: Session,
  cluster: ClusterFacts,
  directory: string,
  label: string,
): Promise<BaseBackup> {
  await holdWal(session);
  const { major, inRecovery } = cluster.server;
  const start =
    major >= 15 ? "pg_backup_start(label => $1, fast => true)" : "pg_start_backup($1, true, false)";
  const [row] = await session.rows<Record<string, string>>(
    `select ${start}::text as lsn, clock_timestamp()::text as at`,
    [label],
  );
  const startLsn = row?.lsn ?? "";
  const timeline = await timelineOf(session);
  return {
    cluster,
    timeline,
    startLsn,
    startTime: isoTime(row?.at ?? ""),
    takenOn: inRecovery ? "standby" : "primary",
    reader: "files",
    files: filesOfDirectory(directory, cluster.hasPageChecksums ? startLsn : null),
    changedSince: (range, signal) =>
      cluster.summarizesWal ? changedSince(session, range, signal) : Promise.resolve(null),
    stop: async () => {
      const stopped = await stopBackup(session, major);
      await requireSameServer(session, { inRecovery, timeline });
      return stopped;
    },
    close: () => session.close(),
  };
}

/** A slot that lives as long as the session: the server keeps the WAL that the backup needs until it is copied. */
async function holdWal(session: Session): Promise<void> {
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
async function timelineOf(session: Session): Promise<number> {
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

async function stopBackup(session: Session, major: number): Promise<StoppedBackup> {
  const stop = major >= 15 ? "pg_backup_stop(wait_for_archive => false)" : "pg_stop_backup(false, false)";
  const [row] = await session.rows<Record<string, string>>(
    `select lsn::text as lsn, labelfile as label, clock_timestamp()::text as at from ${stop}`,
  );
  if (!row?.lsn || !row.label) throw new JBackupError("bug", "PostgreSQL ended the backup without a label");
  return { endLsn: row.lsn, endTime: isoTime(row.at ?? ""), backupLabel: row.label };
}

async function requireSameServer(
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

const isoTime = (text: string): string =>
  new Date(`${text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00")}`).toISOString();

export const walFolder = (directory: string): string => join(directory, "pg_wal");
