import { isJBackupError, reasonOf } from "../../domain/errors.js";
import { lsnText, parseLsn, segmentAt, type TimelineLeg } from "../../domain/wal.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { requireOwnSystem } from "../ownSystem.js";
import { type Archiving, beginAt, shipFinished, slotPosition } from "./archiving.js";
import { alertGap } from "./gapAlerts.js";
import { failing, handOverMissed, healMissed } from "./missed.js";
import type { Shipper } from "./shipper.js";
import { type Stream, startStream } from "./streaming.js";
import { legsFrom, storeHistories } from "./timelines.js";

const PIECE_EVERY_MS = 1_000;
const HEARTBEAT_EVERY_MS = 60_000;
const LOOK_AFTER_EVERY_MS = 5_000;
const SYNC_LOOK_MS = 2;
const RECONNECT_MS = { first: 250, longest: 10_000 };
/** A backlog of so many segments is fetched from the folder before the stream goes on. */
const BACKLOG_SEGMENTS = 3n;
const FINGERPRINT = "wal_follow";

/** Archives until it is told to stop: the server may restart, go away, or move on to another timeline meanwhile. */
export async function follow(archiving: Archiving): Promise<void> {
  const { site } = archiving;
  let wait = RECONNECT_MS.first;
  let isTold = false;
  let wasConnected = false;
  while (!site.signal.aborted) {
    try {
      await followOnce(archiving, async () => {
        wait = RECONNECT_MS.first;
        if (isTold) site.report.info("connected again");
        isTold = false;
        wasConnected = true;
        await resolveAlert(site, FINGERPRINT, "the server's WAL is followed again");
      });
    } catch (error) {
      if (site.signal.aborted) break;
      // at the beginning a trouble is told at once: whoever starts it is still there to see
      if (!wasConnected || !isPassing(error)) throw error;
      if (!isTold) {
        site.report.warn(`the WAL cannot be followed (${reasonOf(error)}); trying again until it can`);
        isTold = true;
        await raiseAlert(site, {
          type: "WAL_GAP",
          severity: "error",
          fingerprint: FINGERPRINT,
          message: `the WAL cannot be followed: ${reasonOf(error)}`,
          hint: "the server keeps its WAL until the follower is back; look at jbackup wal status",
        });
      }
      await rest(site.signal, wait);
      wait = Math.min(RECONNECT_MS.longest, wait * 2);
    }
  }
}

/** The server is away, or storages are: both may come back. */
const isPassing = (error: unknown): boolean =>
  isJBackupError(
    error,
    "postgres_unreachable",
    "postgres_failed",
    "locked",
    "storage_unavailable",
    "too_few_copies",
  );

/** One connection's life. */
async function followOnce(archiving: Archiving, onConnected: () => Promise<void>): Promise<void> {
  const { postgres, site } = archiving;
  const session = await postgres.admin();
  try {
    const current: Archiving = { ...archiving, session, server: await postgres.wal.server(session) };
    await requireOwnSystem(site, current.server.systemId);
    let from = await slotPosition(current, await currentTimeline(current));
    const known = archiving.tally.to;
    if (known !== null && from > known) await alertGap(site, known, from);
    archiving.tally.from ??= from;
    archiving.tally.to ??= from;
    for (;;) {
      const newest = await currentTimeline(current);
      await storeHistories(current, newest);
      const [leg] = (await legsFrom(current, from, newest)) as [TimelineLeg];
      archiving.tally.timeline = leg.timeline;
      const end = await followTimeline(current, leg, onConnected);
      if (end === null) return;
      site.report.info(`the server went on to timeline ${end.timeline} at ${end.at}`);
      from = parseLsn(end.at);
    }
  } finally {
    await session.close();
  }
}

async function currentTimeline({ postgres, slot }: Archiving): Promise<number> {
  const receiver = await postgres.wal.receiver(slot);
  receiver.close();
  return receiver.timeline;
}

/** Null when the signal came: then everything that was received is stored. */
async function followTimeline(
  archiving: Archiving,
  leg: TimelineLeg,
  onConnected: () => Promise<void>,
): Promise<{ timeline: number; at: string } | null> {
  const { site, server } = archiving;
  const { timeline } = leg;
  const shipper = await beginAt(archiving, timeline, segmentAt(leg.from, server.segmentBytes));
  await catchUp(archiving, shipper, leg);
  const stream = await startStream(archiving, shipper, timeline);
  const care = takeCare(archiving, shipper, stream);
  let end: { timeline: number; at: string } | null = null;
  let failure: unknown = null;
  stream.ended.then(
    (ended) => {
      end = ended;
    },
    (error: unknown) => {
      failure = error;
    },
  );
  try {
    let isTold = false;
    let nextPiece = site.clock.monotonicMs() + PIECE_EVERY_MS;
    while (end === null && failure === null && shipper.failure === null && !site.signal.aborted) {
      const now = site.clock.monotonicMs();
      if (care.isSynchronous || now >= nextPiece) {
        shipper.shipPiece();
        nextPiece = now + PIECE_EVERY_MS;
      }
      stream.report();
      if (stream.hasStarted && !isTold) {
        isTold = true;
        onConnected().catch((error: unknown) => site.report.warn(reasonOf(error)));
      }
      await rest(site.signal, care.isSynchronous ? SYNC_LOOK_MS : Math.min(200, PIECE_EVERY_MS));
    }
    await finish(shipper);
    if (site.signal.aborted) await stream.finish();
    if (shipper.failure !== null) throw shipper.failure;
    if (failure !== null) throw failure;
    return end;
  } finally {
    care.stop();
    stream.stop();
  }
}

/** What came is stored, whatever ended the stream. */
async function finish(shipper: Shipper): Promise<void> {
  const LAST_ROUNDS = 3; // a piece may be on its way already, and another be needed behind it
  for (let round = 0; round < LAST_ROUNDS && shipper.durable < shipper.received; round++) {
    shipper.shipPiece();
    await shipper.settle();
  }
}

async function catchUp(
  archiving: Archiving,
  shipper: Shipper,
  { timeline, from, to }: TimelineLeg,
): Promise<void> {
  const { session, server, postgres } = archiving;
  const first = segmentAt(from, server.segmentBytes);
  let next = first;
  for (;;) {
    const [row] = await session.rows<{ lsn: string }>(
      "select (case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_flush_lsn() end)::text as lsn",
    );
    const flushed = parseLsn(row?.lsn ?? "0/0");
    const finished = segmentAt(to !== null && to < flushed ? to : flushed, server.segmentBytes);
    if (finished - next < BACKLOG_SEGMENTS) break;
    const reached = await shipFinished(archiving, shipper, timeline, next, finished);
    await shipper.settle();
    await postgres.wal.advanceSlot(session, archiving.slot, lsnText(shipper.durable));
    if (reached === next) break;
    next = reached;
  }
  if (next > first) shipper.skipTo(next);
}

interface Care {
  readonly isSynchronous: boolean;
  stop(): void;
}

/** Beside the stream: heartbeats, storages that missed something, and whether commits wait for us. */
function takeCare(archiving: Archiving, shipper: Shipper, stream: Stream): Care {
  const { site, postgres, session, server, slot, writer } = archiving;
  let isSynchronous = false;
  let isStopped = false;
  let lastBeat = site.clock.monotonicMs();
  const lookAtServer = async (): Promise<void> => {
    isSynchronous = await postgres.wal.isSynchronous(session, slot);
    if (!server.inRecovery && site.clock.monotonicMs() - lastBeat > HEARTBEAT_EVERY_MS) {
      lastBeat = site.clock.monotonicMs();
      await postgres.wal.heartbeat(session);
    }
    stream.report();
  };
  const lookAtStorages = async (): Promise<void> => {
    const away = failing(writer);
    await handOverMissed(site, writer);
    await healMissed(site, server.systemId, away);
    await writer.rejoin();
  };
  const again = async (look: () => Promise<void>, everyMs: number): Promise<void> => {
    while (!isStopped && shipper.failure === null && !site.signal.aborted) {
      await look().catch((error: unknown) => {
        if (!isStopped) site.report.warn(`looking after the archive failed: ${reasonOf(error)}`);
      });
      await rest(site.signal, everyMs);
    }
  };
  // a storage that does not answer must not keep the server waiting
  void again(lookAtServer, LOOK_AFTER_EVERY_MS);
  void again(lookAtStorages, LOOK_AFTER_EVERY_MS);
  return {
    get isSynchronous() {
      return isSynchronous;
    },
    stop: () => {
      isStopped = true;
    },
  };
}

const rest = (signal: AbortSignal, ms: number): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
  });
