import fc from "fast-check";
import { expect, test } from "vitest";
import { type DatedNote, goneBy, nextGoneNote, readGoneNote } from "../../src/domain/goneNotes.js";
import { planRetention } from "../../src/domain/retention.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const FIRST = Date.parse("2025-11-20T03:00:00Z");
const OF = "7401 shop";

interface Look {
  gone: string[];
  of: string;
  /** Hours since the one before. */
  after: number;
}

/** One run after the other, each of which reads the newest notes and no more; newest first. */
function notesAfter(looks: Look[], reach: number): DatedNote[] {
  let notes: DatedNote[] = [];
  let at = FIRST;
  for (const { gone, of, after } of looks) {
    at += after * HOUR;
    const read = notes.slice(0, reach);
    const facts = JSON.parse(JSON.stringify(nextGoneNote(gone, { notes: read, of, at: new Date(at) })));
    const note = readGoneNote(facts);
    if (note !== null) notes = [{ at: new Date(at), note }, ...notes];
  }
  return notes;
}

const hourly = (count: number, gone: string[]): Look[] =>
  Array.from({ length: count }, () => ({ gone, of: OF, after: 1 }));

const ids = ["1", "2", "__proto__"];
const look = fc.record({
  gone: fc.subarray(ids),
  of: fc.constantFrom(OF, OF, OF, "another shop"),
  after: fc.integer({ min: 1, max: 500 }),
});

test("since when is what the whole unbroken row says, however few of the notes can be read", () =>
  fc.assert(
    fc.property(
      fc.array(look, { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: 50 }),
      (looks, reach) => {
        const notes = notesAfter(looks, reach);
        for (const id of ids) {
          const end = notes.findIndex(({ note }) => note.of !== OF || !note.gone.has(id));
          const row = end === -1 ? notes : notes.slice(0, end);
          const told = goneBy(notes.slice(0, reach), id, OF);
          expect(told?.since).toEqual(row.at(-1)?.at);
          if (told === null) continue;
          expect(told.seen).toEqual(expect.arrayContaining(row.slice(0, reach).map(({ at }) => at)));
          // those that can be read are counted as they were, those before them by the day
          const oldestRead = row.slice(0, reach).at(-1)?.at ?? told.since;
          const daysBefore = Math.ceil((oldestRead.getTime() - told.since.getTime()) / DAY);
          expect(told.seen.length).toBeLessThanOrEqual(Math.min(row.length, reach) + daysBefore);
          if (row.length <= reach) expect(told.seen).toHaveLength(row.length);
          expect(Math.min(...told.seen.map(Number))).toBe(told.since.getTime());
        }
      },
    ),
    { numRuns: 500 },
  ));

test("hourly runs for a year let the last backup go after a month, and every one that the policy would keep in its turn", () => {
  const notes = notesAfter([...hourly(1, []), ...hourly(24 * 365, ["1"])], 20).slice(0, 500);
  const gone = goneBy(notes, "1", OF);
  expect(gone?.since).toEqual(new Date(FIRST + 2 * HOUR));
  if (gone === null) return;
  const backups = [30, 200].map((days) => ({
    id: `${days} days before`,
    kind: "tenant" as const,
    method: "logical" as const,
    tenantId: "1",
    createdAt: new Date(FIRST - days * DAY),
    endedAt: new Date(FIRST - days * DAY),
    needs: [],
    isGood: true,
  }));
  const ask = (now: number) =>
    planRetention({
      policy: { monthly: 12 },
      backups,
      pins: new Map(),
      pitrWindowMs: 29 * DAY,
      now: new Date(now),
      paused: () => null,
      gone: new Map([["1", gone]]),
    }).remove;
  // the months since take the places of those before
  expect(ask(FIRST + 366 * DAY)).toEqual(["30 days before", "200 days before"]);
});

test("notes without the moment are read, and the first new one takes it over from their row", () => {
  const old = (hours: number, gone: string[]): DatedNote => {
    const note = readGoneNote({ gone, of: OF });
    if (note === null) throw new Error("no note");
    return { at: new Date(FIRST + hours * HOUR), note };
  };
  const notes = [old(3, ["1", "2"]), old(2, ["1"]), old(1, [])];
  expect(goneBy(notes, "1", OF)?.since).toEqual(new Date(FIRST + 2 * HOUR));
  const at = new Date(FIRST + 4 * HOUR);
  const facts = nextGoneNote(["1", "2", "3"], { notes, of: OF, at });
  expect(facts).toEqual({
    gone: {
      1: new Date(FIRST + 2 * HOUR).toISOString(),
      2: new Date(FIRST + 3 * HOUR).toISOString(),
      3: at.toISOString(),
    },
    of: OF,
  });
});

test("nothing that is noted reaches further back than a note that still knew the tenant, or into the future", () => {
  const noted = (hours: number, gone: Record<string, string>): DatedNote => {
    const note = readGoneNote({ gone, of: OF });
    if (note === null) throw new Error("no note");
    return { at: new Date(FIRST + hours * HOUR), note };
  };
  const early = new Date(FIRST - 90 * DAY).toISOString();
  expect(goneBy([noted(9, { 1: early }), noted(8, {})], "1", OF)?.since).toEqual(new Date(FIRST + 9 * HOUR));
  expect(goneBy([noted(9, { 1: "some day" })], "1", OF)?.since).toEqual(new Date(FIRST + 9 * HOUR));
  const late = noted(9, { 1: new Date(FIRST + 900 * DAY).toISOString() });
  const at = new Date(FIRST + 10 * HOUR);
  expect(nextGoneNote(["1"], { notes: [late], of: OF, at }).gone).toEqual({ 1: at.toISOString() });
});

test.each([[{}], [{ gone: null, of: OF }], [{ gone: "1", of: OF }]])("%j is no note", (metadata) => {
  expect(readGoneNote(metadata)).toBeNull();
});
