const UNITS: Record<string, number> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  y: 31_536_000_000,
};

/** `90s`, `1h30m`, `30d`, `1y`: milliseconds, or null when the text is no duration. */
export function parseDuration(text: string): number | null {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdwy])/g)];
  if (parts.length === 0 || parts.map(([part]) => part).join("") !== text) return null;
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (UNITS[unit ?? ""] ?? Number.NaN), 0);
}

const HAS_ZONE = /(Z|[+-]\d\d(:?\d\d)?)$/;
const LOCAL_TIME = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?$/;

export type ParsedInstant = { ok: true; at: Date } | { ok: false; problem: "no_zone" | "not_a_time" };

/** An instant with a zone (`2026-11-20T02:00:00Z`, `2026-11-20 02:00+01`), or a span back from now (`2h`). A day alone is its start in UTC. */
export function parseInstant(text: string, now: Date): ParsedInstant {
  const back = parseDuration(text);
  if (back !== null) return { ok: true, at: new Date(now.getTime() - back) };
  if (/^\d{4}-\d\d-\d\d$/.test(text)) return instantOf(`${text}T00:00:00Z`);
  if (LOCAL_TIME.test(text)) return { ok: false, problem: "no_zone" };
  if (!HAS_ZONE.test(text)) return { ok: false, problem: "not_a_time" };
  return instantOf(text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00"));
}

function instantOf(text: string): ParsedInstant {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? { ok: false, problem: "not_a_time" } : { ok: true, at };
}

const two = (value: number): string => String(value).padStart(2, "0");

/** `20261120-020000`, in UTC: the time part of labels. */
export const compactTime = (at: Date): string =>
  `${at.getUTCFullYear()}${two(at.getUTCMonth() + 1)}${two(at.getUTCDate())}-${two(at.getUTCHours())}${two(at.getUTCMinutes())}${two(at.getUTCSeconds())}`;
