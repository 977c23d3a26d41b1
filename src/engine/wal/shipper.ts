import { type Lsn, pieceName, segmentAt, segmentName, segmentStart } from "../../domain/wal.js";
import type { WalWriter } from "./walWriter.js";

export interface ShipperSettings {
  writer: WalWriter;
  segmentBytes: number;
  /** Everything before this position is in enough storages. */
  onDurable(lsn: Lsn): void;
  onShipped(kind: "segment" | "piece", bytes: number): void;
}

/** Memory for segments that are on their way. */
const IN_FLIGHT_BYTES = 48 * 2 ** 20;
/** Fewer than a storage may be behind: then that one is slow, and not all of them busy with small segments. */
const IN_FLIGHT_MOST = 8;

interface Held {
  number: bigint;
  buffer: Buffer;
  filled: number;
  /** Shipped as pieces up to here, or about to be. */
  sent: number;
}

interface Sending {
  from: Lsn;
  to: Lsn;
  isDone: boolean;
}

/** Cuts a stream of WAL into segments, ships each as soon as it is whole, and pieces of the one that is being written. */
export class Shipper {
  readonly #settings: ShipperSettings;
  readonly #mostInFlight: number;
  readonly #sending: Sending[] = [];
  readonly #running = new Set<Promise<void>>();
  /** Pieces that are stored of segments which are not whole yet. */
  readonly #pieces = new Map<bigint, string[]>();
  #timeline = 0;
  #durable: Lsn = 0n;
  #held: Held | null = null;
  #spare: Buffer[] = [];
  #segmentsRunning = 0;
  #piecesRunning = 0;
  #failure: unknown = null;

  constructor(settings: ShipperSettings) {
    this.#settings = settings;
    this.#mostInFlight = Math.max(
      1,
      Math.min(IN_FLIGHT_MOST, Math.floor(IN_FLIGHT_BYTES / settings.segmentBytes)),
    );
  }

  /** Begins at the start of a segment, of which an earlier run may have left pieces. */
  begin(timeline: number, from: Lsn, left: string[]): void {
    const number = segmentAt(from, this.#settings.segmentBytes);
    this.#timeline = timeline;
    this.#durable = from;
    this.#held = null;
    this.#sending.length = 0;
    this.#pieces.set(number, left);
    this.#open(number);
  }

  get durable(): Lsn {
    return this.#durable;
  }

  get received(): Lsn {
    const held = this.#held;
    return held === null
      ? this.#durable
      : segmentStart(held.number, this.#settings.segmentBytes) + BigInt(held.filled);
  }

  /** More must not come before something of it is stored. */
  get isFull(): boolean {
    return this.#segmentsRunning >= this.#mostInFlight;
  }

  get failure(): unknown {
    return this.#failure;
  }

  take(at: Lsn, bytes: Buffer): void {
    let from = at;
    let rest = bytes;
    while (rest.length > 0) {
      const held = this.#held;
      if (held === null || this.received !== from)
        throw new RangeError(`WAL at ${from} came where ${this.received} was expected`);
      const part = rest.subarray(0, this.#settings.segmentBytes - held.filled);
      part.copy(held.buffer, held.filled);
      held.filled += part.length;
      from += BigInt(part.length);
      rest = rest.subarray(part.length);
      if (held.filled === this.#settings.segmentBytes) this.#finish(held);
    }
  }

  /** What has come since the last piece, as the next one. Only one is on its way: those who wait for it wait together. */
  shipPiece(): void {
    const held = this.#held;
    if (held === null || this.#piecesRunning > 0 || held.filled === held.sent) return;
    const name = pieceName(this.#nameOf(held.number), held.sent, held.filled);
    const content = held.buffer.subarray(held.sent, held.filled);
    const start = segmentStart(held.number, this.#settings.segmentBytes);
    const [from, to] = [start + BigInt(held.sent), start + BigInt(held.filled)];
    held.sent = held.filled;
    this.#pieces.set(held.number, [...(this.#pieces.get(held.number) ?? []), name]);
    this.#piecesRunning++;
    this.#send(name, content, from, to, "piece", () => {
      this.#piecesRunning--;
    });
  }

  /** A whole segment that was read elsewhere. */
  shipSegment(number: bigint, content: Buffer, onDone: () => void): void {
    const start = segmentStart(number, this.#settings.segmentBytes);
    this.#segmentsRunning++;
    this.#send(
      this.#nameOf(number),
      content,
      start,
      start + BigInt(this.#settings.segmentBytes),
      "segment",
      () => {
        this.#segmentsRunning--;
        onDone();
        this.#removePieces(number);
      },
    );
  }

  /** Goes on behind segments that were shipped whole. */
  skipTo(number: bigint): void {
    this.#open(number);
  }

  /** Until all that was shipped is stored; throws what went wrong. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#running);
    if (this.#failure !== null) throw this.#failure;
  }

  /** Until there is room for more. */
  async room(): Promise<void> {
    while (this.isFull && this.#failure === null) await Promise.race(this.#running);
    if (this.#failure !== null) throw this.#failure;
  }

  buffer(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.#settings.segmentBytes);
  }

  giveBack(buffer: Buffer): void {
    if (this.#spare.length < this.#mostInFlight) this.#spare.push(buffer);
  }

  #nameOf(number: bigint): string {
    return segmentName({ timeline: this.#timeline, number }, this.#settings.segmentBytes);
  }

  #open(number: bigint): void {
    this.#held = { number, buffer: this.buffer(), filled: 0, sent: 0 };
  }

  /** The whole is stored now. */
  #removePieces(number: bigint): void {
    const pieces = this.#pieces.get(number) ?? [];
    this.#pieces.delete(number);
    if (pieces.length > 0 && this.#failure === null) void this.#settings.writer.remove(pieces);
  }

  #finish(held: Held): void {
    this.#open(held.number + 1n);
    this.shipSegment(held.number, held.buffer, () => {
      // a piece that is still on its way is read from there
      if (this.#failure === null && this.#piecesRunning === 0) this.giveBack(held.buffer);
    });
  }

  #send(
    name: string,
    content: Buffer,
    from: Lsn,
    to: Lsn,
    kind: "segment" | "piece",
    onDone: () => void,
  ): void {
    const entry: Sending = { from, to, isDone: false };
    this.#sending.push(entry);
    const running = this.#settings.writer
      .put(name, content)
      .then(
        () => {
          entry.isDone = true;
          this.#settings.onShipped(kind, content.length);
        },
        (error: unknown) => {
          this.#failure ??= error;
        },
      )
      .then(() => {
        this.#running.delete(running);
        onDone();
        this.#advance();
      });
    this.#running.add(running);
  }

  #advance(): void {
    const before = this.#durable;
    for (let hasMoved = true; hasMoved; ) {
      hasMoved = false;
      for (const [at, { from, to, isDone }] of this.#sending.entries()) {
        if (!isDone || from > this.#durable) continue;
        if (to > this.#durable) this.#durable = to;
        this.#sending.splice(at, 1);
        hasMoved = true;
        break;
      }
    }
    if (this.#durable > before) this.#settings.onDurable(this.#durable);
  }
}
