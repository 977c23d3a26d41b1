import { setTimeout as pause } from "node:timers/promises";
import { JBackupError } from "../../domain/errors.js";
import { lsnText, parseLsn, segmentsBetween } from "../../domain/wal.js";
import { filePart, inMemory } from "./pageCheck.js";
import type { ReplicationEvent, ReplicationSession } from "./replication.js";
import type { BackupFiles, FilePart, SourceFile } from "./sourceFile.js";

type WalRange = Parameters<BackupFiles["wal"]>[0];

const HEADER_BYTES = 25;
const PATIENCE_MS = 30_000;
/** The server has nothing more for now: the rest of the segment is not written yet. */
const QUIET_MS = 1_000;

/** The segments of a range and the history of its timeline, asked for over the replication protocol. */
export async function* walOfServer(session: ReplicationSession, range: WalRange): AsyncGenerator<SourceFile> {
  const { timeline, segmentBytes } = range;
  if (timeline > 1) yield await historyOf(session, timeline);
  const segment = BigInt(segmentBytes);
  const [from, end] = [parseLsn(range.startLsn), parseLsn(range.endLsn)];
  const first = (from / segment) * segment;
  const command = `START_REPLICATION PHYSICAL ${lsnText(first)} TIMELINE ${timeline}`;
  const bytes = new WalBytes(session, session.events(command), first, end);
  for (const name of segmentsBetween(timeline, from, end, segmentBytes))
    yield {
      path: `pg_wal/${name}`,
      mode: 0o600,
      size: segmentBytes,
      read: async (partBytes) => segmentParts(bytes, segmentBytes, partBytes),
    };
}

async function* segmentParts(bytes: WalBytes, size: number, partBytes: number): AsyncGenerator<FilePart> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(partBytes, size));
  for (let offset = 0; offset < size; offset += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, size - offset));
    await bytes.fill(part);
    yield filePart(offset, part, null, async () => undefined);
  }
}

async function historyOf(session: ReplicationSession, timeline: number): Promise<SourceFile> {
  for await (const event of session.events(`TIMELINE_HISTORY ${timeline}`)) {
    const [name, content] = (event.kind === "rows" ? event.rows[0] : undefined) ?? [];
    if (name && content) return inMemory(`pg_wal/${name}`, 0o600, Buffer.from(content));
  }
  throw new JBackupError("postgres_failed", `the server has no history of its timeline ${timeline}`);
}

/** The WAL from one LSN on, as bytes without gaps. Behind what the backup needs, what is not there yet reads as zeros. */
class WalBytes {
  readonly #session: ReplicationSession;
  readonly #events: AsyncIterator<ReplicationEvent>;
  readonly #neededLsn: bigint;
  #lsn: bigint;
  #chunk: Buffer = Buffer.alloc(0);
  #coming: Promise<IteratorResult<ReplicationEvent>> | null = null;
  #isOver = false;

  constructor(
    session: ReplicationSession,
    events: AsyncIterator<ReplicationEvent>,
    from: bigint,
    neededLsn: bigint,
  ) {
    this.#session = session;
    this.#events = events;
    this.#lsn = from;
    this.#neededLsn = neededLsn;
  }

  async fill(buffer: Buffer): Promise<void> {
    for (let done = 0; done < buffer.length; ) {
      if (this.#chunk.length === 0 && !(await this.#receive())) {
        buffer.fill(0, done);
        return;
      }
      const part = this.#chunk.subarray(0, buffer.length - done);
      buffer.set(part, done);
      done += part.length;
      this.#chunk = this.#chunk.subarray(part.length);
    }
  }

  /** False when all that is needed has come and the server is quiet. */
  async #receive(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      if (this.#isOver) return false;
      const isEnough = this.#lsn >= this.#neededLsn;
      this.#coming ??= this.#events.next();
      const next = await Promise.race([this.#coming, quiet(isEnough ? QUIET_MS : PATIENCE_MS)]);
      if (next === null && isEnough) this.#isOver = true;
      else if (next === null || next.done) throw this.#cutOff();
      else {
        this.#coming = null;
        if (next.value.kind === "data") this.#take(next.value.bytes);
      }
    }
    return true;
  }

  #take(message: Buffer): void {
    const kind = String.fromCharCode(message[0] as number);
    if (kind === "k") {
      if (message[17] === 1) this.#session.send(statusOf(this.#lsn));
      return;
    }
    const start = message.readBigUInt64BE(1);
    if (kind !== "w" || start !== this.#lsn)
      throw new JBackupError(
        "postgres_failed",
        `the server sent WAL of ${lsnText(start)} where ${lsnText(this.#lsn)} was next`,
      );
    this.#chunk = message.subarray(HEADER_BYTES);
    this.#lsn += BigInt(this.#chunk.length);
  }

  #cutOff(): JBackupError {
    return new JBackupError(
      "postgres_failed",
      `the server sent its WAL up to ${lsnText(this.#lsn)} only; the backup needs it up to ${lsnText(this.#neededLsn)}`,
      { hint: "run the backup again" },
    );
  }
}

const quiet = (ms: number): Promise<null> => pause(ms, null, { ref: true });

/** Only a sign of life: what was written, flushed and applied; the time and the wish for an answer stay zero. */
function statusOf(lsn: bigint): Buffer {
  const message = Buffer.alloc(34);
  message.write("r", 0, "latin1");
  for (const at of [1, 9, 17]) message.writeBigUInt64BE(lsn, at);
  return message;
}
