import { JBackupError } from "../../domain/errors.js";
import type { Session } from "../connection.js";
import type { ChangedPages } from "./changedPages.js";
import { type ClusterFacts, clusterFacts } from "./clusterFacts.js";
import { isReadableHere } from "./dataDirectory.js";
import { filesOfDirectory } from "./localFiles.js";
import type { ReplicationSession } from "./replication.js";
import { holdWal, isoTime, lagSeconds, requireSameServer, timelineOf } from "./serverState.js";
import type { BackupFiles } from "./sourceFile.js";
import { startOnStream } from "./streamedBackup.js";
import { changedSince, type WalRange } from "./walSummaries.js";

/** A cluster that is being backed up: between start and stop its files may be read while they change. */
export interface BaseBackup {
  readonly cluster: ClusterFacts;
  readonly timeline: number;
  readonly startLsn: string;
  readonly startTime: string;
  readonly takenOn: "primary" | "standby";
  /** How far behind the standby was; null on a primary. */
  readonly lagSeconds: number | null;
  readonly reader: "files" | "stream";
  readonly files: BackupFiles;
  /** The pages that changed in a range of WAL, where the server keeps summaries of it; null when it does not. */
  changedSince(range: WalRange, signal: AbortSignal): Promise<ChangedPages | null>;
  /** Ends the backup on the server. After it the WAL that it needs is there to be read. */
  stop(): Promise<StoppedBackup>;
  /** Throws when the server has gone away: what is read from then on is worth nothing. */
  requireAlive(): void;
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
  /** A path, `auto`: where the server says, if that can be read here, or `stream`: never read here. */
  dataDirectory: string;
  signal: AbortSignal;
  connect(): Promise<Session>;
  openReplication(): Promise<ReplicationSession>;
}

/** Begins a backup. The session stays open until the end: the server gives a backup up when its session goes. */
export async function openBaseBackup(settings: BaseBackupSettings): Promise<BaseBackup> {
  const session = await settings.connect();
  // nothing is lost with it: the server gives the backup up, and the slot
  settings.signal.addEventListener("abort", session.abort, { once: true });
  try {
    const cluster = await clusterFacts(session);
    const directory = await directoryHere(cluster, settings.dataDirectory);
    return directory === null
      ? await startOnStream(session, cluster, settings.label, () => cutOnAbort(settings))
      : await startOnFiles(session, cluster, directory, settings.label);
  } catch (error) {
    await session.close();
    settings.signal.throwIfAborted();
    throw error;
  }
}

async function cutOnAbort({ openReplication, signal }: BaseBackupSettings): Promise<ReplicationSession> {
  const replication = await openReplication();
  signal.addEventListener("abort", () => void replication.close(), { once: true });
  return replication;
}

/** The data directory, if its files can be read here; a directory that was named must be the right one. */
async function directoryHere(cluster: ClusterFacts, wanted: string): Promise<string | null> {
  if (wanted === "stream") return null;
  const directory = wanted === "auto" ? cluster.dataDirectory : wanted;
  if (await isReadableHere(directory, cluster.server.systemId, cluster.startedAtSeconds)) return directory;
  if (wanted === "auto") return null;
  throw new JBackupError(
    "environment",
    `the data directory ${directory} cannot be read here, or is not that of the server`,
    { hint: "check database.dataDirectory in jbackup.yaml, or set it to auto" },
  );
}

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
  const lag = await lagSeconds(session);
  return {
    cluster,
    timeline,
    startLsn,
    startTime: isoTime(row?.at ?? ""),
    takenOn: inRecovery ? "standby" : "primary",
    lagSeconds: lag,
    reader: "files",
    files: filesOfDirectory(directory, cluster.hasPageChecksums ? startLsn : null),
    changedSince: (range, signal) =>
      cluster.summarizesWal ? changedSince(session, range, signal) : Promise.resolve(null),
    stop: async () => {
      const stopped = await stopBackup(session, major);
      await requireSameServer(session, { inRecovery, timeline });
      requireStartOn(timeline, stopped.backupLabel);
      return stopped;
    },
    requireAlive: () => session.requireAlive(),
    close: () => session.close(),
  };
}

async function stopBackup(session: Session, major: number): Promise<StoppedBackup> {
  const stop = major >= 15 ? "pg_backup_stop(wait_for_archive => false)" : "pg_stop_backup(false, false)";
  const [row] = await session.rows<Record<string, string>>(
    `select lsn::text as lsn, labelfile as label, clock_timestamp()::text as at from ${stop}`,
  );
  if (!row?.lsn || !row.label) throw new JBackupError("bug", "PostgreSQL ended the backup without a label");
  return { endLsn: row.lsn, endTime: isoTime(row.at ?? ""), backupLabel: row.label };
}

/** On a standby the backup begins at its last restart point, which may lie on an older timeline than its newest WAL. */
function requireStartOn(timeline: number, label: string): void {
  const started = Number(/^START TIMELINE: (\d+)$/m.exec(label)?.[1] ?? timeline);
  if (started === timeline) return;
  throw new JBackupError(
    "failed",
    `the backup would begin on timeline ${started} and end on timeline ${timeline}`,
    { hint: "run CHECKPOINT on the standby, then run the backup again" },
  );
}
