import type { Gone } from "./retention.js";

/** What a backup of all tenants notes: who has backups, and no row among the tenants any more. */
export interface GoneNote {
  /** By tenant, since when every such backup says so; null: noted when that was not written down with it. */
  gone: ReadonlyMap<string, string | null>;
  /** The database whose word this is: another one's tenants are others. */
  of: string;
}

/** As the record of a run has it. */
export interface NotedFacts {
  gone: Record<string, string>;
  of: string;
}

export interface DatedNote {
  at: Date;
  note: GoneNote;
}

const DAY_MS = 86_400_000;

/** Null where a run noted nothing. */
export function readGoneNote({ gone, of }: Record<string, unknown>): GoneNote | null {
  if (typeof gone !== "object" || gone === null) return null;
  const entries: [string, string | null][] = Array.isArray(gone)
    ? gone.map((id) => [String(id), null])
    : Object.entries(gone).map(([id, since]) => [id, isMoment(since) ? since : null]);
  return { gone: new Map(entries), of: String(of) };
}

const isMoment = (since: unknown): since is string =>
  typeof since === "string" && !Number.isNaN(Date.parse(since));

/** The moment goes over from note to note, so that the newest one tells it however many runs there were since. */
export function nextGoneNote(
  ids: readonly string[],
  { notes, of, at }: { notes: readonly DatedNote[]; of: string; at: Date },
): NotedFacts {
  const since = (id: string): string => {
    const before = unbroken(notes, id, of)?.since;
    return (before === undefined || before > at ? at : before).toISOString();
  };
  return { gone: Object.fromEntries(ids.map((id) => [id, since(id)])), of };
}

/** Since when, and how often, every note up to the newest says that this one is gone. Null where the newest does not. */
export function goneBy(notes: readonly DatedNote[], id: string, of: string): Gone | null {
  const row = unbroken(notes, id, of);
  if (row === null) return null;
  const { since, looks } = row;
  return { since, seen: [...looks, ...looksBefore(looks, since)] };
}

/** `notes` are from the newest to the oldest that could be read. */
function unbroken(
  notes: readonly DatedNote[],
  id: string,
  of: string,
): { since: Date; looks: Date[] } | null {
  const end = notes.findIndex(({ note }) => note.of !== of || !note.gone.has(id));
  const row = end === -1 ? notes : notes.slice(0, end);
  const oldest = row.at(-1);
  if (oldest === undefined) return null;
  const noted = row.map(({ note }) => note.gone.get(id) ?? null).find((since) => since !== null);
  const told = noted === undefined ? oldest.at : new Date(noted);
  // where the row is seen to begin, nothing that is noted makes it longer
  const since = end !== -1 && told < oldest.at ? oldest.at : told;
  return { since, looks: row.map(({ at }) => at) };
}

/** Those too long ago to be read: one a day at most, and no more often than those that are. */
function looksBefore(looks: readonly Date[], since: Date): Date[] {
  const [newest, oldest] = [looks[0], looks.at(-1)];
  if (newest === undefined || oldest === undefined || since >= oldest) return [];
  if (newest === oldest) return [since];
  const usualMs = (newest.getTime() - oldest.getTime()) / (looks.length - 1);
  const stepMs = Math.max(DAY_MS, usualMs);
  const between = Math.ceil((oldest.getTime() - since.getTime()) / stepMs) - 1;
  const earlier = Array.from(
    { length: between },
    (_, nth) => new Date(oldest.getTime() - (nth + 1) * stepMs),
  );
  return [...earlier, since];
}
