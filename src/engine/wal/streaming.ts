import { type Lsn, segmentAt, segmentStart } from "../../domain/wal.js";
import type { TimelineEnd, WalReceiver } from "../../postgres/postgres.js";
import type { Archiving } from "./archiving.js";
import type { Shipper } from "./shipper.js";

/** Streams into the shipper until the position is durable, the timeline ends, or the signal comes. */
export interface Stream {
  /** Fails when the connection does; null when it was finished from this side. */
  ended: Promise<TimelineEnd | null>;
  receiver: WalReceiver;
  /** The server sends: to be connected is not enough. */
  readonly hasStarted: boolean;
  report(): void;
  /** Ends it in good order: the server knows what is durable, and the slot is free. */
  finish(): Promise<void>;
  stop(): void;
}

const FINISH_MS = 3_000;

const REPORT_EVERY_MS = 2_000;
/** A server that says nothing for so long is asked, and one that does not answer is gone: no packet says that it is. */
const SILENCE_MS = { asked: 15_000, gone: 45_000 };
const WATCH_EVERY_MS = 5;

export async function startStream(
  { site, postgres, slot, server }: Archiving,
  shipper: Shipper,
  timeline: number,
): Promise<Stream> {
  const receiver = await postgres.wal.receiver(slot);
  const report = (): void => receiver.report({ written: shipper.received, flushed: shipper.durable });
  let isPaused = false;
  let hasStarted = false;
  let heardAt = site.clock.monotonicMs();
  const watch = setInterval(() => {
    if (isPaused && !shipper.isFull) {
      isPaused = false;
      heardAt = site.clock.monotonicMs();
      receiver.resume();
    }
  }, WATCH_EVERY_MS);
  const reporting = setInterval(() => {
    const silentMs = isPaused ? 0 : site.clock.monotonicMs() - heardAt;
    if (silentMs > SILENCE_MS.gone) receiver.close();
    else
      receiver.report({ written: shipper.received, flushed: shipper.durable }, silentMs > SILENCE_MS.asked);
  }, REPORT_EVERY_MS);
  const stop = (): void => {
    clearInterval(watch);
    clearInterval(reporting);
    receiver.close();
  };
  const from = segmentStart(segmentAt(shipper.received, server.segmentBytes), server.segmentBytes);
  const ended = receiver
    .stream({
      slot,
      timeline,
      from,
      onData: (at, bytes) => {
        shipper.take(at, bytes);
        if (shipper.isFull && !isPaused) {
          isPaused = true;
          receiver.pause();
        }
      },
      onAsked: report,
      onStarted: () => {
        hasStarted = true;
      },
      onHeard: () => {
        heardAt = site.clock.monotonicMs();
      },
    })
    .finally(stop);
  ended.catch(() => undefined); // whoever waits for it is told
  const finish = async (): Promise<void> => {
    report();
    receiver.resume();
    receiver.end();
    await Promise.race([ended.catch(() => undefined), pause(FINISH_MS)]);
    stop();
  };
  return {
    ended,
    receiver,
    report,
    finish,
    stop,
    get hasStarted() {
      return hasStarted;
    },
  };
}

/** For one pass: everything up to a position, then the connection is given back. */
export async function streamUpTo(
  archiving: Archiving,
  shipper: Shipper,
  timeline: number,
  to: Lsn,
): Promise<void> {
  const stream = await startStream(archiving, shipper, timeline);
  try {
    let hasEnded = false;
    const ended = stream.ended.then(() => {
      hasEnded = true;
    });
    while (shipper.durable < to && !hasEnded) {
      archiving.site.signal.throwIfAborted();
      if (shipper.failure !== null) throw shipper.failure;
      if (shipper.received >= to) shipper.shipPiece();
      await Promise.race([ended, pause(WATCH_EVERY_MS)]);
    }
    await stream.finish();
  } finally {
    stream.stop();
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
