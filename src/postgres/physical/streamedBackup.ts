import { JBackupError } from "../../domain/errors.js";
import { parseLsn } from "../../domain/wal.js";
import type { Session } from "../connection.js";
import type { BaseBackup } from "./baseBackup.js";
import type { ClusterFacts } from "./clusterFacts.js";
import type { ReplicationEvent, ReplicationSession } from "./replication.js";
import { clockOf, holdWal, lagSeconds, requireSameServer } from "./serverState.js";
import { filesOfStream, type StreamedArchive } from "./streamedFiles.js";
import { walOfServer } from "./streamedWal.js";
import { tarEntries } from "./tar.js";

/** The server reads its files itself and sends them: for a data directory that cannot be read here. */
export async function startOnStream(
  session: Session,
  cluster: ClusterFacts,
  label: string,
  openReplication: () => Promise<ReplicationSession>,
): Promise<BaseBackup> {
  await holdWal(session);
  const { major, inRecovery } = cluster.server;
  const replication = await openReplication();
  try {
    const lag = await lagSeconds(session);
    const stream = new BackupStream(replication.events(commandFor(major, label)));
    const { lsn: startLsn, timeline } = await stream.position();
    const startTime = await clockOf(session);
    await stream.tablespaces();
    const checkedFrom = cluster.hasPageChecksums ? parseLsn(startLsn) : null;
    const files = filesOfStream(
      stream.archives(),
      checkedFrom,
      (range) => walOfServer(replication, range),
      (path, into, at) => readOnServer(session, path, into, at),
    );
    return {
      cluster,
      timeline,
      startLsn,
      startTime,
      takenOn: inRecovery ? "standby" : "primary",
      lagSeconds: lag,
      reader: "stream",
      files,
      changedSince: async () => null, // everything is sent anyway
      stop: async () => {
        const end = await stream.position();
        await stream.finish();
        await requireSameServer(session, { inRecovery, timeline });
        return { endLsn: end.lsn, endTime: await clockOf(session), backupLabel: files.backupLabel() };
      },
      requireAlive: () => session.requireAlive(),
      close: async () => {
        await replication.close();
        await session.close();
      },
    };
  } catch (error) {
    await replication.close();
    throw error;
  }
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** Page checksums are checked here, where a damaged page is reported and does not end the backup. */
const commandFor = (major: number, label: string): string =>
  major >= 15
    ? `BASE_BACKUP (LABEL ${quoted(label)}, CHECKPOINT 'fast', WAL false, WAIT false, TABLESPACE_MAP true, MANIFEST 'no', VERIFY_CHECKSUMS false)`
    : `BASE_BACKUP LABEL ${quoted(label)} FAST NOWAIT TABLESPACE_MAP NOVERIFY_CHECKSUMS`;

/** A page that looks damaged is looked at again through SQL, by those who may. */
async function readOnServer(session: Session, path: string, into: Buffer, at: number): Promise<void> {
  const [may] = await session.rows<{ may: string }>(
    "select has_function_privilege('pg_read_binary_file(text, bigint, bigint, boolean)', 'execute')::text as may",
  );
  if (may?.may !== "true") return;
  const [row] = await session.rows<{ bytes: string | null }>(
    "select encode(pg_read_binary_file($1, $2, $3, true), 'hex') as bytes",
    [path, at, into.length],
  );
  Buffer.from(row?.bytes ?? "", "hex").copy(into);
}

/** The parts of the answer to BASE_BACKUP, to be asked for in their order. */
class BackupStream {
  readonly #events: AsyncGenerator<ReplicationEvent>;
  #tablespaces: (string | null)[] = [];
  /** What was seen of the next part when the one before ended. */
  #next: ReplicationEvent | null = null;

  constructor(events: AsyncGenerator<ReplicationEvent>) {
    this.#events = events;
  }

  /** Where the backup begins or ends. */
  async position(): Promise<{ lsn: string; timeline: number }> {
    const [[lsn, timeline] = []] = await this.#rows();
    if (!lsn || !timeline) throw unexpected("no position in the WAL");
    return { lsn, timeline: Number(timeline) };
  }

  async tablespaces(): Promise<void> {
    this.#tablespaces = (await this.#rows()).map(([oid]) => oid ?? null);
  }

  /** Before version 15 one COPY per archive, in the order of the list; from then on one COPY that names each. */
  async *archives(): AsyncGenerator<StreamedArchive> {
    let inOrder = 0;
    for (let event = await this.#take(); ; event = await this.#take()) {
      if (event === null) throw unexpected("no end");
      if (event.kind === "rows") {
        this.#next = event;
        return;
      }
      if (event.kind === "copy") {
        const first = await this.#take();
        this.#next = first;
        if (first?.kind === "data" && first.bytes[0] === NEW_ARCHIVE) continue;
        const tablespace = this.#tablespaces[inOrder++] ?? null;
        yield { tablespace, entries: tarEntries(this.#plainData()) };
      } else if (event.bytes[0] === NEW_ARCHIVE) {
        yield { tablespace: tablespaceIn(event.bytes), entries: tarEntries(this.#markedData()) };
      } else if (event.bytes[0] !== PROGRESS) throw unexpected("a message of an unknown kind");
    }
  }

  /** Reads to the end, where a late error would stand. */
  async finish(): Promise<void> {
    while ((await this.#take()) !== null);
  }

  async *#plainData(): AsyncGenerator<Buffer> {
    for (let event = await this.#take(); event !== null; event = await this.#take()) {
      if (event.kind !== "data") {
        this.#next = event;
        return;
      }
      yield event.bytes;
    }
  }

  async *#markedData(): AsyncGenerator<Buffer> {
    for (let event = await this.#take(); event !== null; event = await this.#take()) {
      if (event.kind !== "data" || event.bytes[0] === NEW_ARCHIVE) {
        this.#next = event;
        return;
      }
      if (event.bytes[0] === DATA) yield event.bytes.subarray(1);
      else if (event.bytes[0] !== PROGRESS) throw unexpected("a message of an unknown kind");
    }
  }

  async #rows(): Promise<(string | null)[][]> {
    const event = await this.#take();
    if (event?.kind !== "rows") throw unexpected("no rows where they were due");
    return event.rows;
  }

  async #take(): Promise<ReplicationEvent | null> {
    const kept = this.#next;
    this.#next = null;
    if (kept !== null) return kept;
    const next = await this.#events.next();
    return next.done ? null : next.value;
  }
}

const NEW_ARCHIVE = "n".charCodeAt(0);
const DATA = "d".charCodeAt(0);
const PROGRESS = "p".charCodeAt(0);

/** The archive of a tablespace is named for its oid, that of the data directory is base.tar. */
function tablespaceIn(message: Buffer): string | null {
  const name = message.toString("utf8", 1, message.indexOf(0, 1));
  return /^(\d+)\.tar$/.exec(name)?.[1] ?? null;
}

const unexpected = (what: string): JBackupError =>
  new JBackupError("postgres_failed", `the server answered BASE_BACKUP with ${what}`);
