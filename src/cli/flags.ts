import { JBackupError } from "../domain/errors.js";
import { parseTimeline, type TimelineWish } from "../domain/recoveryTarget.js";
import { nearest } from "../domain/similar.js";
import { parseInstant } from "../domain/time.js";
import type { Options } from "./context.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

/** As people type it: --tenant-sample. */
export const flagText = (name: string): string =>
  `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

export const textFlag = (options: Options, name: string): string | undefined => {
  const value = options[name];
  return typeof value === "string" ? value : undefined;
};

export const listFlag = (options: Options, name: string): string[] => {
  const value = options[name];
  return Array.isArray(value) ? value : [];
};

export const isSet = (options: Options, name: string): boolean => options[name] === true;

export function choiceFlag<Choice extends string>(
  options: Options,
  name: string,
  choices: readonly Choice[],
): Choice | undefined {
  const value = textFlag(options, name);
  if (value === undefined || choices.includes(value as Choice)) return value as Choice | undefined;
  const meant = nearest(value, choices);
  throw usage(
    `${flagText(name)} cannot be "${value}"${meant ? `; did you mean "${meant}"?` : ""}`,
    `choose one of ${choices.join(", ")}`,
  );
}

export function countFlag(options: Options, name: string, from: number, to: number): number | undefined {
  const value = textFlag(options, name);
  if (value === undefined) return undefined;
  const count = Number(value);
  if (Number.isInteger(count) && count >= from && count <= to) return count;
  throw usage(`${flagText(name)} cannot be "${value}"`, `give a whole number from ${from} to ${to}`);
}

/** The timeline of the WAL that is to be followed. */
export function timelineIn(options: Options): TimelineWish | undefined {
  const value = textFlag(options, "timeline");
  return value === undefined ? undefined : parseTimeline(value);
}

/** ISO text of the instant that a flag means. */
export function timeFlag(options: Options, name: string, now: Date): string | undefined {
  const value = textFlag(options, name);
  if (value === undefined) return undefined;
  const parsed = parseInstant(value, now);
  if (parsed.ok) return parsed.at.toISOString();
  throw parsed.problem === "no_zone"
    ? usage(
        `${flagText(name)} ${value} has no time zone`,
        `write ${value.replace(" ", "T")}Z for UTC, or add an offset such as +01:00`,
      )
    : usage(
        `${flagText(name)} cannot be "${value}"`,
        "give a day (2026-11-20), a time with zone (2026-11-20T02:00:00Z), or a span back (7d, 2h)",
      );
}
