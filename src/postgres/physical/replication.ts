import type pg from "pg";
import type { Address } from "../connection.js";
import { connectReplication, type Target, translate } from "../connection.js";

/** What the server sends back for a command of the replication protocol, in its order. */
export type ReplicationEvent =
  | { kind: "rows"; rows: (string | null)[][] }
  /** A COPY begins. */
  | { kind: "copy" }
  | { kind: "data"; bytes: Buffer };

export interface ReplicationSession {
  /**
   * Runs one command. The server is held up while nobody takes what it sends, so that memory stays small however slow the
   * storages are.
   */
  events(command: string): AsyncGenerator<ReplicationEvent>;
  /** Answers into a COPY that goes both ways. */
  send(bytes: Buffer): void;
  /** Ends the connection at once, in the middle of whatever it does. */
  close(): Promise<void>;
}

const HELD_MOST_BYTES = 4 * 2 ** 20;

interface Wire {
  stream: { pause(): void; resume(): void; destroy(): void };
  query(text: string): void;
  sendCopyFromChunk(bytes: Buffer): void;
  on(event: string, listener: (message: never) => void): void;
  removeListener(event: string, listener: (message: never) => void): void;
}

export async function openReplication(target: Target, user: string): Promise<ReplicationSession> {
  const { client, address } = await connectReplication(target, user);
  const wire = (client as unknown as { connection: Wire }).connection;
  return {
    events: (command) => eventsOf(client, wire, address, command),
    send: (bytes) => wire.sendCopyFromChunk(bytes),
    close: async () => {
      wire.stream.destroy();
    },
  };
}

/** Collects what arrives until it is asked for, and stops the socket when that becomes much. */
class Inbox {
  readonly #wire: Wire;
  readonly #events: ReplicationEvent[] = [];
  #heldBytes = 0;
  #isPaused = false;
  #ended: { error: Error | null } | null = null;
  #wake: (() => void) | null = null;

  constructor(wire: Wire) {
    this.#wire = wire;
  }

  put(event: ReplicationEvent): void {
    this.#events.push(event);
    if (event.kind === "data") this.#heldBytes += event.bytes.length;
    if (this.#heldBytes > HELD_MOST_BYTES && !this.#isPaused) {
      this.#isPaused = true;
      this.#wire.stream.pause();
    }
    this.#wake?.();
  }

  end(error: Error | null): void {
    this.#ended ??= { error };
    this.#wake?.();
  }

  /** Null when the command has ended. */
  async take(): Promise<ReplicationEvent | null> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) {
        if (event.kind === "data") this.#heldBytes -= event.bytes.length;
        if (this.#isPaused && this.#heldBytes < HELD_MOST_BYTES / 2) {
          this.#isPaused = false;
          this.#wire.stream.resume();
        }
        return event;
      }
      if (this.#ended?.error) throw this.#ended.error;
      if (this.#ended) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }
}

async function* eventsOf(
  client: pg.Client,
  wire: Wire,
  address: Address,
  command: string,
): AsyncGenerator<ReplicationEvent> {
  const inbox = new Inbox(wire);
  let rows: (string | null)[][] = [];
  const onCopy = (): void => inbox.put({ kind: "copy" });
  const onEnd = (): void => inbox.end(translate(Object.assign(new Error(LOST), { code: "57P02" }), address));
  const query = {
    submit: (connection: Wire) => connection.query(command),
    handleRowDescription: () => {
      rows = [];
    },
    handleDataRow: (message: { fields: (string | null)[] }) => rows.push(message.fields),
    handleCommandComplete: () => {
      if (rows.length > 0) inbox.put({ kind: "rows", rows });
      rows = [];
    },
    // a copy: the parser uses its memory again
    handleCopyData: ({ chunk }: { chunk: Buffer }) => inbox.put({ kind: "data", bytes: Buffer.from(chunk) }),
    handleReadyForQuery: () => inbox.end(null),
    handleError: (error: Error) => inbox.end(translate(error, address)),
  };
  wire.on("copyOutResponse", onCopy);
  wire.on("replicationStart", onCopy);
  wire.on("end", onEnd);
  try {
    client.query(query as unknown as pg.Submittable);
    for (let event = await inbox.take(); event !== null; event = await inbox.take()) yield event;
  } finally {
    wire.removeListener("copyOutResponse", onCopy);
    wire.removeListener("replicationStart", onCopy);
    wire.removeListener("end", onEnd);
  }
}

const LOST = "the replication connection was terminated";
