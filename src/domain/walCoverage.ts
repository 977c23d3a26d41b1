import {
  historyName,
  type Lsn,
  lsnText,
  parseSegmentName,
  segmentAt,
  segmentName,
  segmentStart,
  type TimelineSwitch,
  type WalFile,
} from "./wal.js";

/** A WAL file that some storage holds. */
export interface StoredWal {
  file: WalFile;
  /** When it was stored: every commit in it is older. */
  modifiedAt: Date;
}

export interface WalInventory {
  segmentBytes: number;
  stored: readonly StoredWal[];
  /** The parsed history files, by the timeline that each begins. */
  histories: ReadonlyMap<number, TimelineSwitch[]>;
}

/** A stretch of WAL without interruption. */
export interface WalStretch {
  timeline: number;
  from: Lsn;
  to: Lsn;
  /** When its newest part was stored. */
  until: Date;
}

/** How much of each segment of one timeline is there, from its beginning. */
interface SegmentState {
  bytes: number;
  until: Date;
}

type Timelines = Map<number, Map<bigint, SegmentState>>;

const known = new WeakMap<WalInventory, Timelines>();

/** Made once for an inventory, which nobody changes: many bases are asked about the same one. */
function segmentsOf(inventory: WalInventory): Timelines {
  const timelines = known.get(inventory) ?? readSegments(inventory);
  known.set(inventory, timelines);
  return timelines;
}

function readSegments({ stored, segmentBytes }: WalInventory): Timelines {
  const timelines: Timelines = new Map();
  const pieces = new Map<string, { from: number; to: number; at: Date }[]>();
  const note = (name: string, bytes: number, until: Date): void => {
    const { timeline, number } = parseSegmentName(name, segmentBytes);
    const segments = timelines.get(timeline) ?? new Map<bigint, SegmentState>();
    timelines.set(timeline, segments);
    const known = segments.get(number);
    if (known === undefined || known.bytes < bytes) segments.set(number, { bytes, until });
  };
  for (const { file, modifiedAt } of stored) {
    if (file.kind === "segment") note(file.name, segmentBytes, modifiedAt);
    else if (file.kind === "piece")
      pieces.set(file.segment, [
        ...(pieces.get(file.segment) ?? []),
        { from: file.from, to: file.to, at: modifiedAt },
      ]);
  }
  for (const [segment, found] of pieces) {
    const { bytes, until } = joined(found);
    if (bytes > 0) note(segment, bytes, until);
  }
  return timelines;
}

const later = (a: Date, b: Date): Date => new Date(Math.max(a.getTime(), b.getTime()));

/** How far pieces reach from the beginning of their segment without a gap. */
function joined(pieces: { from: number; to: number; at: Date }[]): SegmentState {
  let state: SegmentState = { bytes: 0, until: new Date(0) };
  for (const { from, to, at } of pieces.toSorted((a, b) => a.from - b.from || a.to - b.to)) {
    if (from > state.bytes) break;
    if (to > state.bytes) state = { bytes: to, until: later(at, state.until) };
  }
  return state;
}

/** The pieces that make up the beginning of a segment, in order, each from where the one before ended. */
export function piecesToJoin(
  pieces: readonly Extract<WalFile, { kind: "piece" }>[],
): { name: string; from: number; skip: number; to: number }[] {
  const chosen: { name: string; from: number; skip: number; to: number }[] = [];
  let end = 0;
  for (const { name, from, to } of pieces.toSorted((a, b) => a.from - b.from || b.to - a.to)) {
    if (from > end) break;
    if (to <= end) continue;
    chosen.push({ name, from: end, skip: end - from, to });
    end = to;
  }
  return chosen;
}

/** What is stored, timeline by timeline, as stretches without holes. */
export function stretchesOf(inventory: WalInventory): WalStretch[] {
  const { segmentBytes } = inventory;
  const stretches: WalStretch[] = [];
  const timelines = [...segmentsOf(inventory)].sort(([a], [b]) => a - b);
  for (const [timeline, segments] of timelines) {
    let last: WalStretch | undefined;
    for (const [number, { bytes, until }] of [...segments].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const from = segmentStart(number, segmentBytes);
      if (last === undefined || last.to !== from) {
        last = { timeline, from, to: from, until };
        stretches.push(last);
      }
      last.to = from + BigInt(bytes);
      if (until > last.until) last.until = until;
    }
  }
  return stretches;
}

export interface WalHole {
  timeline: number;
  from: Lsn;
  to: Lsn;
}

/** Between the stretches of one timeline something is missing. */
export function holesOf(stretches: readonly WalStretch[]): WalHole[] {
  return stretches.flatMap((stretch, at) => {
    const next = stretches[at + 1];
    return next !== undefined && next.timeline === stretch.timeline
      ? [{ timeline: stretch.timeline, from: stretch.to, to: next.from }]
      : [];
  });
}

export interface WalBase {
  timeline: number;
  startLsn: Lsn;
  endLsn: Lsn;
  /** The backup carries its own WAL, and on a primary the last segment of it is finished. */
  endsSegment: boolean;
}

/** What can be replayed from a backup on. */
export interface WalPath {
  /** In the order in which a server asks for them: histories, then segments. */
  files: string[];
  timelines: number[];
  /** The last of them is what the server finds as the latest one. */
  isLatest: boolean;
  endLsn: Lsn;
  /** When the last of it was stored; null when nothing is stored beyond the backup itself. */
  until: Date | null;
  /** What is missing before WAL that is stored further on. */
  hole: WalHole | null;
}

/** A timeline on the way of a recovery, and from where on it is followed. */
export interface WalLeg {
  timeline: number;
  from: Lsn;
}

/** The timelines that lead from a base to one of them; null where that one left before the base's end: it is another future. */
export function legsTo(base: WalBase, histories: WalInventory["histories"], wanted: number): WalLeg[] | null {
  const own = { timeline: base.timeline, from: base.startLsn };
  if (wanted === base.timeline) return [own];
  const switches = histories.get(wanted) ?? [];
  const at = switches.findIndex(({ timeline }) => timeline === base.timeline);
  const left = switches[at];
  if (left === undefined || left.at < base.endLsn) return null;
  const later = switches
    .slice(at)
    .map(({ at: from }, nth) => ({ timeline: switches[at + nth + 1]?.timeline ?? wanted, from }));
  return [own, ...later];
}

/** What PostgreSQL itself takes for the latest: it looks for one history after another until there is none. */
function latestFrom(base: WalBase, histories: WalInventory["histories"]): number {
  let newest = base.timeline;
  while (histories.has(newest + 1)) newest++;
  return newest;
}

/** Those that a recovery follows from the base on: up to the newest one whose histories are there without a gap. */
function legsToNewest(base: WalBase, histories: WalInventory["histories"]): WalLeg[] {
  for (let tried = latestFrom(base, histories); tried > base.timeline; tried--) {
    const legs = legsTo(base, histories, tried);
    if (legs !== null) return legs;
  }
  return [{ timeline: base.timeline, from: base.startLsn }];
}

/** The timeline on which a recovery from a base ends when nothing else is asked for. */
export const newestFrom = ({ histories }: WalInventory, base: WalBase): number =>
  legsToNewest(base, histories).at(-1)?.timeline ?? base.timeline;

/** Along the given timelines, or along those that lead to the newest one. */
export function pathFrom(
  inventory: WalInventory,
  base: WalBase,
  followed: WalLeg[] = legsToNewest(base, inventory.histories),
): WalPath {
  const { segmentBytes } = inventory;
  const timelines = segmentsOf(inventory);
  const newest = followed.at(-1)?.timeline ?? base.timeline;
  const isLatest = newest === latestFrom(base, inventory.histories);
  const files: string[] = [];
  // to find the latest one the server asks for each; a timeline that is named is asked for alone
  for (let timeline = isLatest ? base.timeline + 1 : Math.max(2, newest); timeline <= newest; timeline++)
    files.push(historyName(timeline));

  let number = segmentAt(base.startLsn, segmentBytes);
  const lastOwn = segmentAt(base.endLsn - 1n, segmentBytes);
  let endLsn = base.endLsn;
  let until: Date | null = null;
  for (; ; number++) {
    const found = bestSegment(timelines, followed, number, segmentBytes);
    const isOwn = number < lastOwn || (number === lastOwn && base.endsSegment);
    if (found === null && !isOwn) break;
    if (found !== null) {
      files.push(segmentName({ timeline: found.timeline, number }, segmentBytes));
      if (until === null || found.until > until) until = found.until;
    }
    const reached = segmentStart(number, segmentBytes) + BigInt(found?.bytes ?? segmentBytes);
    if (reached > endLsn) endLsn = reached;
    if (!isOwn && (found?.bytes ?? segmentBytes) < segmentBytes) break;
  }
  const behind = nextStored(timelines, followed, endLsn, segmentBytes);
  return {
    files,
    timelines: followed.map(({ timeline }) => timeline),
    isLatest,
    endLsn,
    until,
    hole: behind === null ? null : { timeline: newest, from: endLsn, to: behind },
  };
}

/** The server asks for the newest timeline's file first. */
function bestSegment(
  timelines: Timelines,
  followed: WalLeg[],
  number: bigint,
  segmentBytes: number,
): (SegmentState & { timeline: number }) | null {
  for (const { timeline, from } of followed.toReversed()) {
    if (segmentAt(from, segmentBytes) > number) continue;
    const state = timelines.get(timeline)?.get(number);
    if (state !== undefined) return { ...state, timeline };
    // a segment of the newer timeline is missing: the older one's ends at the switch
    if (segmentAt(from, segmentBytes) !== number) return null;
  }
  return null;
}

function nextStored(timelines: Timelines, followed: WalLeg[], endLsn: Lsn, segmentBytes: number): Lsn | null {
  let next: Lsn | null = null;
  for (const { timeline } of followed)
    for (const number of timelines.get(timeline)?.keys() ?? []) {
      const start = segmentStart(number, segmentBytes);
      const isAfter = start >= endLsn && isFollowed(followed, timeline, start);
      if (isAfter && (next === null || start < next)) next = start;
    }
  return next;
}

/** WAL that an abandoned timeline wrote after it was left is no part of the path. */
function isFollowed(followed: WalLeg[], timeline: number, at: Lsn): boolean {
  const nth = followed.findIndex((one) => one.timeline === timeline);
  const next = followed[nth + 1];
  return next === undefined || at < next.from;
}

export const holeText = ({ timeline, from, to }: WalHole): string =>
  `timeline ${timeline} from ${lsnText(from)} to ${lsnText(to)}`;
