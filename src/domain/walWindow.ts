import { type Lsn, lsnText, parseLsn, parseSegmentName, segmentStart } from "./wal.js";
import {
  holesOf,
  holeText,
  pathFrom,
  stretchesOf,
  type WalBase,
  type WalHole,
  type WalInventory,
} from "./walCoverage.js";
import { firstStored } from "./walRoutes.js";

export interface Moment {
  at: string;
  lsn: string;
}

/** What can be reached from a base. */
export interface Reach {
  /** On which a recovery from it to the latest moment ends. */
  timeline: number;
  from: Moment;
  to: Moment;
  hole: string | null;
}

export interface ReachedBase extends Reach {
  id: string;
  label: string;
}

export interface WindowBase extends WalBase {
  id: string;
  label: string;
  endTime: string;
}

export interface Reached {
  bases: ReachedBase[];
  /** Null while there is no base. */
  window: { from: Moment; to: Moment } | null;
  holes: WalHole[];
}

/** What the stored WAL leads to; bases newest first. */
export function reachedFrom(inventory: WalInventory, bases: readonly WindowBase[]): Reached {
  // a hole at the very beginning of a timeline shows on the way to it only
  const holes = holesOf(stretchesOf(inventory));
  const reached = bases.map((base): ReachedBase => {
    const path = pathFrom(inventory, base);
    if (path.hole !== null && !holes.some(({ to }) => to === path.hole?.to)) holes.push(path.hole);
    return {
      id: base.id,
      label: base.label,
      timeline: path.timelines.at(-1) ?? base.timeline,
      from: { at: base.endTime, lsn: lsnText(base.endLsn) },
      to: { at: path.until?.toISOString() ?? base.endTime, lsn: lsnText(path.endLsn) },
      hole: path.hole === null ? null : holeText(path.hole),
    };
  });
  return { bases: reached, window: windowOf(reached), holes };
}

/** Those that lead to the newest timeline. What another one leads to is not how the server went on. */
export function leading<Base extends Pick<Reach, "timeline">>(bases: readonly Base[]): Base[] {
  const newest = bases.reduce((most, { timeline }) => Math.max(most, timeline), 0);
  return bases.filter(({ timeline }) => timeline === newest);
}

/**
 * From the oldest base to the newest moment that WAL leads to; bases newest first. One that has no WAL behind it yet ends
 * nothing: until the next pass the window is that of those before it.
 */
export function windowOf(bases: readonly Reach[]): { from: Moment; to: Moment } | null {
  const there = leading(bases);
  const lead = there.find(({ from, to }) => parseLsn(to.lsn) > parseLsn(from.lsn)) ?? there[0];
  if (lead === undefined) return null;
  const joined = there.filter(({ to, hole }) => hole === null && to.lsn === lead.to.lsn);
  return { from: (joined.at(-1) ?? lead).from, to: lead.to };
}

/** What is missing behind the newest base: until there is a newer one, every moment behind it is lost as well. */
export const openHole = (bases: readonly Reach[]): string | null => leading(bases)[0]?.hole ?? null;

/** Moments that cannot be reached any more, for WAL that is missing before a newer base. */
export function lostSpans(bases: readonly Reach[]): { from: string; to: string }[] {
  const there = leading(bases);
  const spans = new Map<string, { from: string; to: string }>();
  there.forEach(({ to, hole }, nth) => {
    const next = there.slice(0, nth).findLast(({ from }) => parseLsn(from.lsn) > parseLsn(to.lsn));
    const known = spans.get(to.lsn);
    if (hole !== null && next !== undefined && (known === undefined || known.from < to.at))
      spans.set(to.lsn, { from: to.at, to: next.from.at });
  });
  return [...spans.values()];
}

export const lostText = ({ from, to }: { from: string; to: string }): string =>
  `no moment between ${from} and ${to} can be reached, for WAL of that time is missing; what follows is not touched by it`;

/** The newest backup, when it lies on a timeline that was left before it ended: no recovery to a later moment begins there. */
export function strayBase<Base extends Pick<Reach, "timeline">>(
  bases: readonly Base[],
): { stray: Base; timeline: number } | null {
  const [newest] = bases;
  const timeline = leading(bases)[0]?.timeline;
  return newest === undefined || timeline === undefined || newest.timeline === timeline
    ? null
    : { stray: newest, timeline };
}

/** Two servers that both believe to be the one. */
export interface Rival {
  /** The timeline that was left and still grows. */
  timeline: number;
  newer: number;
  /** When the last of it was stored. */
  at: Date;
}

/** The clocks of servers and storages differ. */
const SKEW_MS = 60_000;
const STILL_MS = 48 * 3_600_000;

type Taken = Pick<WindowBase, "timeline" | "endLsn" | "endTime">;

/** A timeline that grows behind the point where a newer one left it, after that one had begun. */
export function rivalOf(inventory: WalInventory, bases: readonly Taken[], now: Date): Rival | null {
  if (inventory.histories.size === 0) return null;
  const written = writtenOf(inventory, bases);
  let rival: Rival | null = null;
  for (const [newer, switches] of inventory.histories) {
    const begun = firstStored(inventory, newer);
    if (begun === null) continue;
    for (const { timeline, at: left } of switches) {
      const behind = (written.get(timeline) ?? []).filter(({ lsn }) => lsn > left);
      const last = behind.reduce((most, { at }) => Math.max(most, at), 0);
      const isRival = last > begun.getTime() + SKEW_MS && last > now.getTime() - STILL_MS;
      if (isRival && (rival === null || last > rival.at.getTime()))
        rival = { timeline, newer, at: new Date(last) };
    }
  }
  return rival;
}

/** Of each timeline: when something was stored of it, and a position that had surely been written by then. */
function writtenOf(
  { stored, segmentBytes }: WalInventory,
  bases: readonly Taken[],
): Map<number, { lsn: Lsn; at: number }[]> {
  const written = new Map<number, { lsn: Lsn; at: number }[]>();
  const note = (timeline: number, lsn: Lsn, at: number): void => {
    const known = written.get(timeline) ?? [];
    known.push({ lsn, at });
    written.set(timeline, known);
  };
  for (const { file, modifiedAt } of stored) {
    if (file.kind !== "segment" && file.kind !== "piece") continue;
    const { timeline, number } = parseSegmentName(
      file.kind === "segment" ? file.name : file.segment,
      segmentBytes,
    );
    const begins = segmentStart(number, segmentBytes) + BigInt(file.kind === "piece" ? file.from : 0);
    note(timeline, begins + 1n, modifiedAt.getTime());
  }
  for (const { timeline, endLsn, endTime } of bases) note(timeline, endLsn, Date.parse(endTime));
  return written;
}

export const rivalText = ({ timeline, newer, at }: Rival): string =>
  `timeline ${timeline} was still written at ${at.toISOString()}, after timeline ${newer} had taken over: two servers store into this site`;
