import { JBackupError } from "./errors.js";

/** The timeline to follow: one by its number, or the newest. */
export type TimelineWish = number | "latest";

/** Where a point-in-time recovery is to stop. Without a timeline it is the one that was in force then. */
export type RecoveryTarget = Stop & { timeline?: TimelineWish };

type Stop =
  | { kind: "latest" }
  /** `at` decides what is compared; `text` keeps the microseconds for PostgreSQL. */
  | { kind: "time"; at: Date; text: string }
  | { kind: "lsn"; lsn: string }
  | { kind: "name"; name: string };

const LSN = /^([0-9a-f]{1,8})\/([0-9a-f]{1,8})$/i;
const TIME =
  /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(\.\d{1,6})?)?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?$/i;
/** What people write for times elsewhere. */
const LOOKS_LIKE_TIME =
  /^(now|today|yesterday|tomorrow|noon|midnight|last\b.*|.*\bago|[-+]?\d+\s*(s|m|h|d|w|min|mins|minutes?|hours?|days?)|\d{1,2}:\d\d(:\d\d)?.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*)$/i;
const RESTORE_POINT_BYTES = 63;

/** `--timeline`: latest, a number as PostgreSQL's settings take it, or eight digits as file names have it. */
export function parseTimeline(given: string): TimelineWish {
  const text = given.trim();
  if (text === "latest") return text;
  const isHex = /^(0x[0-9a-f]{1,8}|[0-9a-f]{8})$/i.test(text);
  const timeline = isHex ? Number.parseInt(text, 16) : /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (timeline >= 1 && timeline <= 0xffff_ffff) return timeline;
  throw new JBackupError("usage", `--timeline cannot be "${given}"`, {
    hint: "give its number (2, or 0x1A, or 0000001A as in the names of the WAL), or latest; jbackup wal status shows which there are",
  });
}

/** `--to`: a time with its zone, an LSN, a named restore point, or latest. */
export function parseTarget(given: string, timeline?: TimelineWish): RecoveryTarget {
  const stop = parseStop(given);
  return timeline === undefined ? stop : { ...stop, timeline };
}

function parseStop(given: string): Stop {
  const text = given.trim();
  if (text === "")
    throw new JBackupError("usage", "the target in --to is empty", {
      hint: "give a time such as 2026-11-20T13:59:30Z, an LSN such as 3/A1B2C3D0, a restore point's name, or latest",
    });
  if (text === "latest") return { kind: "latest" };
  const lsn = LSN.exec(text);
  if (lsn) return { kind: "lsn", lsn: `${lsn[1]}/${lsn[2]}`.toUpperCase() };
  if (/^\d{4}-\d\d-\d\d/.test(text)) return timeTarget(text);
  if (LOOKS_LIKE_TIME.test(text))
    throw new JBackupError(
      "usage",
      `the target in --to is no moment, and unlikely to be a restore point: ${text}`,
      {
        hint: "give a time with its zone, 2026-11-20T13:59:30Z; a restore point of that very name is named as name:NAME",
      },
    );
  const named = /^name:(.+)$/.exec(text);
  if (named) return nameTarget(named[1] ?? "");
  return nameTarget(text);
}

function nameTarget(text: string): Stop {
  if (Buffer.byteLength(text) > RESTORE_POINT_BYTES || /\p{Cc}/u.test(text))
    throw new JBackupError(
      "usage",
      "the target in --to is no time, no LSN, and too long for a restore point",
      {
        hint: "write a time as 2026-11-20T13:59:30Z",
      },
    );
  return { kind: "name", name: text };
}

function timeTarget(text: string): Stop {
  const [, date, minutes = "00:00", seconds = "00", fraction = "", zone] = TIME.exec(text) ?? [];
  if (date === undefined)
    throw new JBackupError("usage", `the time in --to cannot be read: ${text}`, {
      hint: "write it as 2026-11-20T13:59:30Z, or with another zone: 2026-11-20T14:59:30+01:00",
    });
  if (zone === undefined)
    throw new JBackupError("usage", `the time in --to has no zone: ${text}`, {
      hint: `add it: ${date}T${minutes}:${seconds}${fraction}Z if that is UTC, else an offset such as +01:00`,
    });
  const offset = offsetText(zone);
  const at = new Date(`${date}T${minutes}:${seconds}${fraction.slice(0, 4)}${offset}`);
  if (Number.isNaN(at.getTime()) || !isRealDate(date))
    throw new JBackupError("usage", `there is no such time as ${text}`, {
      hint: "write it as 2026-11-20T13:59:30Z",
    });
  return {
    kind: "time",
    at,
    text: `${date} ${minutes}:${seconds}${fraction}${offset === "Z" ? "+00" : offset}`,
  };
}

function offsetText(zone: string): string {
  if (/^(z|utc)$/i.test(zone)) return "Z";
  const [, hours = "+00", minutes = "00"] = /^([+-]\d\d):?(\d\d)?$/.exec(zone) ?? [];
  return `${hours}:${minutes}`;
}

/** JavaScript takes February 30 for March 2. */
const isRealDate = (date: string): boolean => {
  const [year = 0, month = 0, day = 0] = date.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day;
};

export function targetText(target: RecoveryTarget): string {
  switch (target.kind) {
    case "latest":
      return "the end of the WAL";
    case "time":
      return target.at.toISOString();
    case "lsn":
      return `LSN ${target.lsn}`;
    case "name":
      return `the restore point "${target.name}"`;
  }
}

/** The settings that make PostgreSQL stop there, and wait to be looked at. */
export function targetSettings(target: RecoveryTarget, timeline: TimelineWish): Record<string, string> {
  const settings = { recovery_target_timeline: String(timeline), recovery_target_inclusive: "on" };
  const stop = { ...settings, recovery_target_action: "pause" };
  switch (target.kind) {
    case "latest":
      return settings;
    case "time":
      return { ...stop, recovery_target_time: target.text };
    case "lsn":
      return { ...stop, recovery_target_lsn: target.lsn };
    case "name":
      return { ...stop, recovery_target_name: target.name };
  }
}
