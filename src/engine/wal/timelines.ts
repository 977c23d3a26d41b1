import { isJBackupError } from "../../domain/errors.js";
import {
  historyName,
  isHistoryName,
  type Lsn,
  parseHistory,
  segmentAt,
  segmentName,
  segmentStart,
  type TimelineLeg,
  timelineLegs,
} from "../../domain/wal.js";
import { stretchesOf } from "../../domain/walCoverage.js";
import type { Archiving } from "./archiving.js";
import { openWalReader } from "./walReader.js";

type Asking = Pick<Archiving, "site" | "postgres" | "server" | "slot">;

/** The timelines that the server came along from a position on: what was written before a promotion has another name. */
export async function legsFrom(
  { site, postgres, slot }: Asking,
  from: Lsn,
  newest: number,
): Promise<TimelineLeg[]> {
  if (newest < 2) return timelineLegs(from, newest, []);
  const receiver = await postgres.wal.receiver(slot);
  try {
    const history = await receiver.history(newest);
    if (history === null)
      site.report.warn(`the server does not have ${historyName(newest)}: older timelines are left out`);
    return timelineLegs(from, newest, history === null ? [] : parseHistory(history.content.toString("utf8")));
  } finally {
    receiver.close();
  }
}

const HISTORY_MAX_BYTES = 2 ** 20;

/** The histories of all timelines up to this one: without them no recovery crosses from one to the next. */
export async function storeHistories(
  { postgres, server, writer, slot }: Archiving,
  newest: number,
): Promise<void> {
  if (newest < 2) return;
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
    for (let timeline = 2; timeline <= newest; timeline++) {
      const history = await receiver.history(timeline);
      if (history !== null) await writer.put(historyName(timeline), history.content);
    }
  } finally {
    receiver.close();
  }
}

/** What a new slot leaves out: WAL behind the end of the archive that the server may still have. */
export interface BeforeSlot {
  /** Where archiving begins. */
  from: Lsn;
  /** Not stored, and not on the server either. */
  gap: { from: Lsn; to: Lsn } | null;
}

/** After a failover the new primary has no slot of ours. It does have the WAL, if it is asked before it removes it. */
export async function beforeSlot(archiving: Archiving, made: Lsn, newest: number): Promise<BeforeSlot> {
  const { postgres, session, server } = archiving;
  const { segmentBytes } = server;
  const legs = await legsFrom(archiving, 0n, newest);
  const stored = await archivedUpTo(archiving, legs);
  if (stored === null || stored >= made) return { from: made, gap: null };
  const there = await postgres.wal.segmentsOnServer(session);
  const wanted = segmentAt(stored, segmentBytes);
  let first = segmentAt(made, segmentBytes);
  while (
    first > wanted &&
    there?.has(
      segmentName({ timeline: timelineOf(legs, first - 1n, segmentBytes), number: first - 1n }, segmentBytes),
    )
  )
    first--;
  const from = segmentStart(first, segmentBytes);
  return { from: from < made ? from : made, gap: from > stored ? { from: stored, to: from } : null };
}

/** The newer timeline has the segment in which the older one was left. */
const timelineOf = (legs: TimelineLeg[], number: bigint, segmentBytes: number): number =>
  legs.find(({ to }) => to === null || segmentAt(to, segmentBytes) > number)?.timeline ?? 1;

/** How far the archive goes on the server's own way; null when it holds nothing of that. */
async function archivedUpTo({ site, server }: Archiving, legs: TimelineLeg[]): Promise<Lsn | null> {
  const reader = await openWalReader(site, server.systemId, { without: "lost" });
  const stored = await reader.list().catch((error: unknown) => {
    if (isJBackupError(error, "storage_unavailable")) return [];
    throw error;
  });
  let end: Lsn | null = null;
  for (const { timeline, from, to } of stretchesOf({
    segmentBytes: server.segmentBytes,
    stored,
    histories: new Map(),
  })) {
    const leg = legs.find((one) => one.timeline === timeline);
    if (leg === undefined || (leg.to !== null && from >= leg.to)) continue;
    const reached = leg.to !== null && to > leg.to ? leg.to : to;
    if (end === null || reached > end) end = reached;
  }
  return end;
}
