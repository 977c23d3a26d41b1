import type { WalStatus } from "../../engine/wal/status.js";
import { agoText } from "../text.js";

const PLACES = 50;

/** The moments that can be reached, drawn: a base is |, WAL is =, what is missing is a gap. */
export function windowText(
  { window, bases, holes }: Pick<WalStatus, "window" | "bases" | "holes">,
  now: Date,
): string[] {
  if (window === null) return ["No moment but the ends of the backups can be reached: no WAL is stored."];
  return [
    `  ${windowBar(bases, PLACES)}`,
    `  any moment from ${window.from.at} to ${window.to.at} (${agoText(window.to.at, now)})`,
    ...holes.map(({ from, to, timeline }) => `  missing: ${from} to ${to} on timeline ${timeline}`),
  ];
}

export function windowBar(bases: WalStatus["bases"], places: number): string {
  const spans = bases.map(({ from, to }) => [Date.parse(from.at), Date.parse(to.at)] as const);
  const first = Math.min(...spans.map(([from]) => from));
  const last = Math.max(...spans.map(([, to]) => to));
  const placeOf = (at: number): number =>
    last === first ? 0 : Math.round(((at - first) / (last - first)) * (places - 1));
  const bar = Array.from({ length: places }, () => " ");
  for (const [from, to] of spans) for (let at = placeOf(from); at <= placeOf(to); at++) bar[at] = "=";
  for (const [from] of spans) bar[placeOf(from)] = "|";
  return `[${bar.join("")}]`;
}
