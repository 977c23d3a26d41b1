import { JBackupError } from "../../domain/errors.js";
import {
  historyName,
  isHistoryName,
  type Lsn,
  lsnText,
  parseLsn,
  segmentAt,
  segmentName,
  segmentStart,
} from "../../domain/wal.js";
import type { Postgres, Session, WalServer } from "../../postgres/postgres.js";
import { raiseAlert } from "../alert.js";
import type { Site } from "../site.js";
import { Shipper } from "./shipper.js";
import { streamUpTo } from "./streaming.js";
import type { WalWriter } from "./walStore.js";

/** Everything that a run of archiving works with. */
export interface Archiving {
  site: Site;
  postgres: Postgres;
  session: Session;
  server: WalServer;
  writer: WalWriter;
  slot: string;
  tally: Tally;
}

export interface Tally {
  segments: number;
  pieces: number;
  walBytes: number;
  from: Lsn | null;
  to: Lsn | null;
  timeline: number;
}

/** Where archiving goes on: what the slot still holds, so what is not known to be stored. */
export async function slotPosition({ site, postgres, session, slot }: Archiving): Promise<Lsn> {
  const found = await postgres.wal.findSlot(session, slot);
  if (found?.isActive)
    throw new JBackupError("locked", `the replication slot ${slot} is in use by another receiver`, {
      hint: "end the other jbackup backup wal --follow, or wait for it",
    });
  if (found !== null) return parseLsn(found.restartLsn);
  const made = await postgres.wal.makeSlot(session, slot);
  site.report.info(`made the replication slot ${slot}: the server keeps WAL until it is stored`);
  return parseLsn(made.restartLsn);
}

/** Everything up to a position, then done. */
export async function archiveUpTo(
  archiving: Archiving,
  end: { lsn: string; timeline: number },
): Promise<void> {
  const { server, tally } = archiving;
  const from = await slotPosition(archiving);
  const to = parseLsn(end.lsn);
  tally.from = from;
  tally.to = from;
  tally.timeline = end.timeline;
  await storeHistories(archiving, end.timeline);
  const shipper = shipperFor(archiving);
  const first = segmentAt(from, server.segmentBytes);
  shipper.begin(end.timeline, segmentStart(first, server.segmentBytes), 0);
  // after a switch the rest of the last segment is there too
  const finished = server.inRecovery
    ? segmentAt(to, server.segmentBytes)
    : segmentAfter(to, server.segmentBytes);
  const wanted = server.inRecovery ? to : segmentStart(finished, server.segmentBytes);
  const reached = await shipFinished(archiving, shipper, end.timeline, first, finished);
  await shipper.settle();
  const { postgres, session, slot } = archiving;
  if (shipper.durable > from) await postgres.wal.advanceSlot(session, slot, lsnText(shipper.durable));
  if (segmentStart(reached, server.segmentBytes) < wanted) {
    shipper.skipTo(reached);
    await streamUpTo(archiving, shipper, end.timeline, wanted);
  }
  await shipper.settle();
  tally.to = shipper.durable;
}

const segmentAfter = (lsn: Lsn, segmentBytes: number): bigint =>
  segmentAt(lsn + BigInt(segmentBytes) - 1n, segmentBytes);

export function shipperFor({ server, tally, writer, site }: Archiving): Shipper {
  return new Shipper({
    writer,
    segmentBytes: server.segmentBytes,
    onDurable: (lsn) => {
      tally.to = lsn;
      site.step("wal-durable");
    },
    onShipped: (kind, bytes) => {
      tally.walBytes += bytes;
      if (kind === "segment") tally.segments++;
      else tally.pieces++;
      site.report.progress({ task: "archiving WAL", done: tally.walBytes, total: null, unit: "bytes" });
    },
  });
}

/**
 * Segments that are finished, read where they lie when this host can: many at a time, several times faster than through the
 * stream. The slot keeps them there. Answers the first that was not shipped.
 */
export async function shipFinished(
  { site, postgres, server }: Archiving,
  shipper: Shipper,
  timeline: number,
  from: bigint,
  to: bigint,
): Promise<bigint> {
  if (server.walDirectory === null || from >= to) return from;
  const there = await postgres.wal.segmentsThere(server.walDirectory);
  let number = from;
  for (; number < to; number++) {
    site.signal.throwIfAborted();
    const name = segmentName({ timeline, number }, server.segmentBytes);
    if (!there.has(name)) break;
    await shipper.room();
    const buffer = shipper.buffer();
    const content = await postgres.wal.readWalFile(server.walDirectory, name, buffer);
    if (content?.length !== server.segmentBytes) break;
    shipper.shipSegment(number, content, () => shipper.giveBack(buffer));
  }
  return number;
}

/** The histories of all timelines up to this one: without them no recovery crosses from one to the next. */
export async function storeHistories(
  { site, postgres, server, writer, slot }: Archiving,
  timeline: number,
): Promise<void> {
  if (timeline < 2) return;
  if (server.walDirectory !== null) {
    const there = await postgres.wal.segmentsThere(server.walDirectory);
    for (const name of [...there].filter(isHistoryName)) {
      const content = await postgres.wal.readWalFile(
        server.walDirectory,
        name,
        Buffer.alloc(HISTORY_MAX_BYTES),
      );
      if (content !== null) await writer.put(name, Buffer.from(content));
    }
    return;
  }
  const receiver = await postgres.wal.receiver(slot);
  try {
    const { name, content } = await receiver.history(timeline);
    if (name !== historyName(timeline)) site.report.warn(`the server calls the history ${name}`);
    await writer.put(name, content);
  } finally {
    receiver.close();
  }
}

const HISTORY_MAX_BYTES = 2 ** 20;

/** The server no longer has what was not stored yet: nothing brings it back, and nobody may learn of it too late. */
export async function alertGap(site: Site, from: Lsn, to: Lsn): Promise<void> {
  const message = `WAL from ${lsnText(from)} to ${lsnText(to)} was never stored, and the server does not have it any more`;
  site.report.warn(message);
  await raiseAlert(site, {
    type: "WAL_GAP",
    severity: "critical",
    fingerprint: `wal_gap:${lsnText(from)}`,
    message,
    hint: "make a new base now: jbackup backup full",
  });
}
