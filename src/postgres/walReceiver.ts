import type pg from "pg";
import { JBackupError } from "../domain/errors.js";
import { lsnText } from "../domain/wal.js";
import { connectReplication, type Target, translate } from "./connection.js";

/** Positions that the receiver tells the server: what is flushed, the slot need not keep any longer. */
export interface Positions {
  written: bigint;
  flushed: bigint;
}

export interface WalStreamRequest {
  slot: string;
  timeline: number;
  from: bigint;
  /** The bytes are only valid during the call. */
  onData(at: bigint, bytes: Buffer): void;
  /** The server wants to know where we are. */
  onAsked(): void;
  /** The server agrees to send from there on. */
  onStarted(): void;
  /** Anything came: the server is alive. */
  onHeard(): void;
}

/** How a stream ended: the server went on to another timeline, where its WAL begins at `at`. */
export interface TimelineEnd {
  timeline: number;
  at: string;
}

export interface WalReceiver {
  systemId: string;
  timeline: number;
  /** The server's own end of WAL when it was asked. */
  position: string;
  /** Null when the server does not have it: of timelines before its own first base it need not. */
  history(timeline: number): Promise<{ name: string; content: Buffer } | null>;
  /** Streams until the timeline ends, or fails when the connection does. Null when it was ended from this side. */
  stream(request: WalStreamRequest): Promise<TimelineEnd | null>;
  report(positions: Positions, wantsReply?: boolean): void;
  /** Holds the server up while storages are slower than it. */
  pause(): void;
  resume(): void;
  /** Ends the stream in good order: the server hears what was reported before, and lets go of the slot. */
  end(): void;
  close(): void;
}

interface Wire {
  stream: { pause(): void; resume(): void; destroy(): void; writable: boolean };
  query(text: string): void;
  sendCopyFromChunk(bytes: Buffer): void;
  endCopyFrom(): void;
  on(event: string, listener: (message: never) => void): void;
  removeListener(event: string, listener: (message: never) => void): void;
}

const NO_FILE = "58P01";
const POSTGRES_EPOCH_MS = 946_684_800_000;
const DATA_HEADER_BYTES = 25;
const Tag = { data: 0x77, keepalive: 0x6b, status: 0x72 } as const;

/** A physical replication connection: what a standby's receiver does, spoken by ourselves. */
export async function openWalReceiver(
  target: Target,
  user: string,
  applicationName: string,
  nowMs: () => number,
): Promise<WalReceiver> {
  const { client, address } = await connectReplication(target, user, applicationName);
  const wire = (client as unknown as { connection: Wire }).connection;
  const leave = { isMeant: false };
  const rowsOf = async (command: string): Promise<Record<string, unknown>[]> => {
    try {
      return (await client.query(command)).rows;
    } catch (error) {
      throw translate(error, address);
    }
  };
  try {
    const [identity] = await rowsOf("IDENTIFY_SYSTEM");
    if (identity === undefined) throw new JBackupError("bug", "the server does not identify itself");
    return {
      systemId: String(identity.systemid),
      timeline: Number(identity.timeline),
      position: String(identity.xlogpos),
      history: async (timeline) => {
        const [row] = await rowsOf(`TIMELINE_HISTORY ${timeline}`).catch((error: JBackupError) => {
          if ((error.cause as { code?: string } | undefined)?.code === NO_FILE) return [];
          throw error;
        });
        if (row === undefined) return null;
        return { name: String(row.filename), content: Buffer.from(row.content as Buffer | string) };
      },
      stream: (request) => stream(client, wire, address, request, leave),
      report: (positions, wantsReply = false) => {
        if (wire.stream.writable) wire.sendCopyFromChunk(statusMessage(positions, nowMs(), wantsReply));
      },
      pause: () => wire.stream.pause(),
      resume: () => wire.stream.resume(),
      end: () => {
        if (leave.isMeant || !wire.stream.writable) return;
        leave.isMeant = true;
        wire.endCopyFrom();
      },
      close: () => wire.stream.destroy(),
    };
  } catch (error) {
    wire.stream.destroy();
    throw error;
  }
}

function stream(
  client: pg.Client,
  wire: Wire,
  address: Parameters<typeof translate>[1],
  request: WalStreamRequest,
  leave: { isMeant: boolean },
): Promise<TimelineEnd | null> {
  return new Promise<TimelineEnd | null>((resolve, reject) => {
    let end: TimelineEnd | null = null;
    const onEnd = (): void => finish(lost());
    const onCopyDone = (): void => {
      if (!leave.isMeant) wire.endCopyFrom();
    };
    const onStarted = (): void => request.onStarted();
    const lost = (): Error =>
      translate(Object.assign(new Error("the connection was terminated"), { code: "57P02" }), address);
    const finish = (error: Error | null): void => {
      wire.removeListener("end", onEnd);
      wire.removeListener("copyDone", onCopyDone);
      wire.removeListener("replicationStart", onStarted);
      if (error === null && (end !== null || leave.isMeant)) resolve(end);
      else reject(error ?? lost());
    };
    const query = {
      submit: (connection: Wire) =>
        connection.query(
          `START_REPLICATION SLOT ${request.slot} PHYSICAL ${lsnText(request.from)} TIMELINE ${request.timeline}`,
        ),
      handleRowDescription: () => undefined,
      handleDataRow: ({ fields }: { fields: (Buffer | string | null)[] }) => {
        end = { timeline: Number(String(fields[0])), at: String(fields[1]) };
      },
      handleCommandComplete: () => undefined,
      handleCopyData: ({ chunk }: { chunk: Buffer }) => {
        try {
          take(chunk, request);
        } catch (error) {
          wire.stream.destroy();
          finish(error as Error);
        }
      },
      handleReadyForQuery: () => finish(null),
      handleError: (error: Error) => finish(translate(error, address)),
    };
    wire.on("end", onEnd);
    wire.on("copyDone", onCopyDone);
    wire.on("replicationStart", onStarted);
    client.query(query as unknown as pg.Submittable);
  });
}

function take(message: Buffer, { onData, onAsked, onHeard }: WalStreamRequest): void {
  onHeard();
  if (message[0] === Tag.data) onData(message.readBigUInt64BE(1), message.subarray(DATA_HEADER_BYTES));
  else if (message[0] === Tag.keepalive && message[17] === 1) onAsked();
}

function statusMessage({ written, flushed }: Positions, nowMs: number, wantsReply: boolean): Buffer {
  const message = Buffer.alloc(34);
  message[0] = Tag.status;
  message.writeBigUInt64BE(written, 1);
  message.writeBigUInt64BE(flushed, 9);
  message.writeBigUInt64BE(0n, 17); // nothing is ever applied here
  message.writeBigInt64BE(BigInt(Math.trunc(nowMs - POSTGRES_EPOCH_MS)) * 1000n, 25);
  message[33] = wantsReply ? 1 : 0;
  return message;
}
