import { JBackupError } from "../../domain/errors.js";
import {
  type Lsn,
  lsnText,
  parseLsn,
  segmentAt,
  segmentName,
  segmentStart,
  type TimelineLeg,
} from "../../domain/wal.js";
import type { Postgres, Session, WalServer } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import { alertGap } from "./gapAlerts.js";
import { Shipper } from "./shipper.js";
import { streamUpTo } from "./streaming.js";
import { beforeSlot, legsFrom, storeHistories } from "./timelines.js";
import type { WalWriter } from "./walWriter.js";

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
export async function slotPosition(archiving: Archiving, timeline: number): Promise<Lsn> {
  const { site, postgres, session, slot } = archiving;
  const found = await postgres.wal.findSlot(session, slot);
  if (found?.isActive)
    throw new JBackupError("locked", `the replication slot ${slot} is in use by another receiver`, {
      hint: "end the other jbackup backup wal --follow, or wait for it",
    });
  if (found !== null) return parseLsn(found.restartLsn);
  const made = await postgres.wal.makeSlot(session, slot);
  site.report.info(`made the replication slot ${slot}: the server keeps WAL until it is stored`);
  const { from, gap } = await beforeSlot(archiving, parseLsn(made.restartLsn), timeline);
  if (gap !== null) await alertGap(site, gap.from, gap.to);
  return from;
}

/** Everything up to a position, then done. */
export async function archiveUpTo(
  archiving: Archiving,
  end: { lsn: string; timeline: number },
): Promise<void> {
  const { server, tally } = archiving;
  const from = await slotPosition(archiving, end.timeline);
  tally.from = from;
  tally.to = from;
  tally.timeline = end.timeline;
  await storeHistories(archiving, end.timeline);
  const to = parseLsn(end.lsn);
  // after a switch the rest of the last segment is there too
  const finished = server.inRecovery
    ? segmentAt(to, server.segmentBytes)
    : segmentAfter(to, server.segmentBytes);
  const wanted = server.inRecovery ? to : segmentStart(finished, server.segmentBytes);
  for (const leg of await legsFrom(archiving, from, end.timeline)) {
    if (leg.to === null) {
      await archiveLeg(archiving, leg, finished, wanted);
      continue;
    }
    // the segment in which a timeline was left is the next one's too
    const left = segmentAt(leg.to, server.segmentBytes);
    await archiveLeg(archiving, leg, left, segmentStart(left, server.segmentBytes));
  }
}

/** Finished segments from where they lie, what is left of the timeline through the stream. */
async function archiveLeg(
  archiving: Archiving,
  { timeline, from }: TimelineLeg,
  finished: bigint,
  wanted: Lsn,
): Promise<void> {
  const { server, tally, postgres, session, slot } = archiving;
  const first = segmentAt(from, server.segmentBytes);
  const start = segmentStart(first, server.segmentBytes);
  if (start >= wanted) return;
  const shipper = await beginAt(archiving, timeline, first);
  const reached = await shipFinished(archiving, shipper, timeline, first, finished);
  await shipper.settle();
  await postgres.wal.advanceSlot(session, slot, lsnText(shipper.durable));
  if (segmentStart(reached, server.segmentBytes) < wanted) {
    shipper.skipTo(reached);
    await streamUpTo(archiving, shipper, timeline, wanted);
  }
  await shipper.settle();
  tally.to = shipper.durable;
}

const segmentAfter = (lsn: Lsn, segmentBytes: number): bigint =>
  segmentAt(lsn + BigInt(segmentBytes) - 1n, segmentBytes);

/** A shipper at a segment, with what an earlier run left there and before cleared away. */
export async function beginAt(archiving: Archiving, timeline: number, number: bigint): Promise<Shipper> {
  const { server, writer } = archiving;
  const { segmentBytes } = server;
  const shipper = shipperFor(archiving);
  const { pieces } = await writer.leftOf(segmentName({ timeline, number }, segmentBytes));
  shipper.begin(timeline, segmentStart(number, segmentBytes), pieces);
  if (number > 0n) {
    const before = await writer.leftOf(segmentName({ timeline, number: number - 1n }, segmentBytes));
    if (before.isWhole) await writer.remove(before.pieces);
  }
  return shipper;
}

function shipperFor({ server, tally, writer, site }: Archiving): Shipper {
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
