import { JBackupError } from "./errors.js";

/** Positions in the WAL are numbers here, and texts such as 3/A1B2C3D0 at the edges. */
export type Lsn = bigint;

const LOG_BYTES = 0x1_0000_0000n;

export function parseLsn(text: string): Lsn {
  const match = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i.exec(text);
  if (!match) throw new JBackupError("usage", `"${text}" is no LSN`, { hint: "write it as 3/A1B2C3D0" });
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}

export const lsnText = (lsn: Lsn): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`;

const hex8 = (value: bigint | number): string => value.toString(16).toUpperCase().padStart(8, "0");

export interface WalSegment {
  timeline: number;
  /** Counted from the beginning of all WAL. */
  number: bigint;
}

export const segmentName = ({ timeline, number }: WalSegment, segmentBytes: number): string => {
  const perLog = LOG_BYTES / BigInt(segmentBytes);
  return hex8(timeline) + hex8(number / perLog) + hex8(number % perLog);
};

const SEGMENT_NAME = /^[0-9A-F]{24}$/;

export const isSegmentName = (name: string): boolean => SEGMENT_NAME.test(name);

/** Whether segments of that size have such a name at all. */
export const isNameOfSize = (name: string, segmentBytes: number): boolean =>
  BigInt(`0x${name.slice(16, 24)}`) < LOG_BYTES / BigInt(segmentBytes);

export function parseSegmentName(name: string, segmentBytes: number): WalSegment {
  if (!isSegmentName(name)) throw new JBackupError("usage", `"${name}" is no name of a WAL segment`);
  const perLog = LOG_BYTES / BigInt(segmentBytes);
  const log = BigInt(`0x${name.slice(8, 16)}`);
  const inLog = BigInt(`0x${name.slice(16)}`);
  if (inLog >= perLog)
    throw new JBackupError("usage", `"${name}" cannot be a segment of ${segmentBytes} bytes`);
  return { timeline: Number.parseInt(name.slice(0, 8), 16), number: log * perLog + inLog };
}

export const segmentAt = (lsn: Lsn, segmentBytes: number): bigint => lsn / BigInt(segmentBytes);
export const segmentStart = (number: bigint, segmentBytes: number): Lsn => number * BigInt(segmentBytes);

/** The segments that hold the WAL from one position up to, not including, another. */
export function segmentsBetween(timeline: number, from: Lsn, to: Lsn, segmentBytes: number): string[] {
  const names: string[] = [];
  const last = segmentAt(to - 1n, segmentBytes);
  for (let number = segmentAt(from, segmentBytes); number <= last; number++)
    names.push(segmentName({ timeline, number }, segmentBytes));
  return names;
}

export const historyName = (timeline: number): string => `${hex8(timeline)}.history`;
export const isHistoryName = (name: string): boolean => /^[0-9A-F]{8}\.history$/.test(name);

/** A line of a history file: the timeline that was left, and where. */
export interface TimelineSwitch {
  timeline: number;
  at: Lsn;
}

export function parseHistory(text: string): TimelineSwitch[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [timeline = "", at = ""] = line.split(/\s+/);
      // timelines stand in decimal here and in hexadecimal in names
      return { timeline: Number.parseInt(timeline, 10), at: parseLsn(at) };
    });
}

/** A part of the way to a server's present: the WAL of one timeline, up to where it was left; null where it still goes on. */
export interface TimelineLeg {
  timeline: number;
  from: Lsn;
  to: Lsn | null;
}

/** The timelines that lead from a position to the newest one. */
export function timelineLegs(from: Lsn, newest: number, switches: readonly TimelineSwitch[]): TimelineLeg[] {
  const legs: TimelineLeg[] = [];
  let reached = from;
  for (const { timeline, at } of switches) {
    if (at <= reached) continue;
    legs.push({ timeline, from: reached, to: at });
    reached = at;
  }
  return [...legs, { timeline: newest, from: reached, to: null }];
}

/** A WAL object's name inside its folder, without `.jbk`. */
export type WalFile =
  | { kind: "segment"; name: string }
  /** The last, unfinished segment of a timeline that was left. */
  | { kind: "partial"; name: string; segment: string }
  /** Bytes `from` up to, not including, `to` of a segment that is still being written. */
  | { kind: "piece"; name: string; segment: string; from: number; to: number }
  | { kind: "history"; name: string };

export const pieceName = (segment: string, from: number, to: number): string =>
  `${segment}.${hex8(from)}-${hex8(to)}`;

export function parseWalFile(name: string): WalFile | null {
  if (isSegmentName(name)) return { kind: "segment", name };
  if (isHistoryName(name)) return { kind: "history", name };
  const partial = /^([0-9A-F]{24})\.partial$/.exec(name);
  if (partial) return { kind: "partial", name, segment: partial[1] as string };
  const piece = /^([0-9A-F]{24})\.([0-9A-F]{8})-([0-9A-F]{8})$/.exec(name);
  if (!piece) return null;
  const [, segment = "", from = "", to = ""] = piece;
  return { kind: "piece", name, segment, from: Number.parseInt(from, 16), to: Number.parseInt(to, 16) };
}

export const walFolder = (systemId: string): string => `wal/${systemId}`;
export const epochKey = (systemId: string, epochId: string): string =>
  `${walFolder(systemId)}/keys/${epochId}.json`;

/** The id of the WAL key that an object holds; null for other objects. */
export const parseEpochKey = (key: string): string | null =>
  /^wal\/\d+\/keys\/([0-9a-f-]{36})\.json$/.exec(key)?.[1] ?? null;

export function walKey(systemId: string, name: string): string {
  const timeline = name.slice(0, 8);
  return isHistoryName(name)
    ? `${walFolder(systemId)}/${timeline}/${name}.jbk`
    : `${walFolder(systemId)}/${timeline}/${name.slice(0, 16)}/${name}.jbk`;
}

/** The file that a key means; null for keys of other things. */
export function parseWalKey(key: string): { systemId: string; file: WalFile } | null {
  const match = /^wal\/(\d+)\/([0-9A-F]{8})\/(?:([0-9A-F]{16})\/)?([^/]+)\.jbk$/.exec(key);
  if (!match) return null;
  const [, systemId = "", , , name = ""] = match;
  const file = parseWalFile(name);
  return file !== null && walKey(systemId, name) === key ? { systemId, file } : null;
}
