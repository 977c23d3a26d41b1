import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Pin } from "../../src/domain/backup.js";
import { judgePins, type StoredPin } from "../../src/domain/pins.js";

const NOW = new Date("2026-12-10T00:00:00.000Z");
const day = (nth: number): string => `2026-12-${String(nth).padStart(2, "0")}T00:00:00.000Z`;
const FUTURE = "2027-06-01T00:00:00.000Z";

const pin = (change: Partial<Pin> = {}): Pin => ({
  id: "b",
  backupId: "b",
  reason: "audit",
  until: null,
  createdAt: day(1),
  createdBy: "ops",
  removedAt: null,
  removedBy: null,
  ...change,
});
const off = (at: string, change: Partial<Pin> = {}): Pin =>
  pin({ removedAt: at, removedBy: "ops", ...change });
const stored = (storage: string, trust: StoredPin["trust"], what: Pin | null): StoredPin => ({
  storage,
  backupId: "b",
  pin: what,
  trust,
});

function judged(known: Pin[], ...there: StoredPin[]) {
  const { held, troubles } = judgePins(known, there, NOW);
  return [held.get("b") ?? null, ...troubles.map(({ storage, problem }) => `${storage} ${problem}`)];
}

describe("a pin holds its backup", () => {
  it.each<[string, Pin[], StoredPin[]]>([
    ["by the catalog alone", [pin()], []],
    ["by one storage alone, signed", [], [stored("one", "signed", pin())]],
    ["by one storage alone, of a version that did not sign", [], [stored("one", "unsigned", pin())]],
    ["until its end", [pin({ until: day(11) })], []],
    [
      "again, pinned after it was taken off",
      [off(day(2))],
      [stored("one", "signed", pin({ createdAt: day(3) }))],
    ],
    [
      "though an earlier word is put back in a storage",
      [],
      [stored("one", "signed", off(day(2))), stored("two", "signed", pin({ createdAt: day(3) }))],
    ],
  ])("%s", (_what, known, there) => {
    expect(judged(known, ...there)).toEqual(["audit"]);
  });

  it.each<[string, Pin[], StoredPin[]]>([
    ["when its end is past", [pin({ until: day(9) })], []],
    [
      "when a signed word took it off",
      [],
      [stored("one", "signed", off(day(2))), stored("two", "signed", pin())],
    ],
    [
      "when the catalog took it off, whatever older word a storage has",
      [off(day(2))],
      [stored("one", "unsigned", pin())],
    ],
    [
      "when a host without a signing key took it off, by its catalog",
      [off(day(2))],
      [stored("one", "unsigned", off(day(2)))],
    ],
  ])("no more %s", (_what, known, there) => {
    expect(judged(known, ...there)).toEqual([null]);
  });
});

describe("a pin file that somebody planted or changed lets go of nothing", () => {
  const unsignedOff = "two says that it was taken off, and nobody signed that";
  const ahead = `two tells of ${FUTURE}, which is still to come`;
  const changed = "two was changed after it was signed";
  it.each<[string, Pin[], StoredPin[], string[]]>([
    ["taken off, unsigned", [pin()], [stored("two", "unsigned", off(day(2)))], ["audit", unsignedOff]],
    [
      "taken off, unsigned, the catalog lost",
      [],
      [stored("two", "unsigned", off(day(2)))],
      ["audit", unsignedOff],
    ],
    ["taken off in the future", [pin()], [stored("two", "unsigned", off(FUTURE))], ["audit", ahead]],
    [
      "taken off in the future, the catalog lost",
      [],
      [stored("two", "unsigned", off(FUTURE))],
      ["audit", ahead],
    ],
    ["signed, and of the future", [pin()], [stored("two", "signed", off(FUTURE))], ["audit", ahead]],
    ["changed", [pin()], [stored("two", "changed", off(day(2)))], ["audit", changed]],
    [
      "changed, the catalog lost",
      [],
      [stored("two", "changed", off(day(2)))],
      ["its pin in storage two was changed after it was signed", changed],
    ],
    [
      "unreadable",
      [],
      [stored("two", "unsigned", null)],
      ["its pin in storage two cannot be read", "two cannot be read"],
    ],
  ])("%s", (_what, known, there, expected) => {
    expect(judged(known, ...there)).toEqual(expected);
  });

  it("whatever it says and however many storages hold it, while the catalog or a signed word holds", () => {
    const time = fc.integer({ min: 1, max: 28 }).map(day);
    const anyPin = fc
      .record({ createdAt: time, removedAt: fc.option(time), until: fc.option(time) })
      .map((change) => pin({ ...change, removedBy: change.removedAt === null ? null : "x" }));
    const planted = fc.record({
      storage: fc.constantFrom("two", "three"),
      backupId: fc.constant("b"),
      trust: fc.constantFrom<StoredPin["trust"]>("unsigned", "changed"),
      pin: fc.option(anyPin),
    });
    fc.assert(
      fc.property(fc.array(planted, { maxLength: 4 }), fc.boolean(), (there, isInCatalog) => {
        const known = isInCatalog ? [pin()] : [];
        const own = isInCatalog ? [] : [stored("one", "signed", pin())];
        expect(judgePins(known, [...there, ...own], NOW).held.get("b")).toBe("audit");
      }),
    );
  });
});

it("a lost catalog is told the last word that is believed, and none that somebody planted", () => {
  const told = (...there: StoredPin[]) => judgePins([], there, NOW).words.get("b");
  expect(told(stored("one", "signed", pin()), stored("two", "unsigned", off(day(2))))).toEqual(pin());
  expect(told(stored("one", "signed", pin()), stored("two", "signed", off(day(2))))).toEqual(off(day(2)));
  expect(told(stored("one", "unsigned", pin()))).toEqual(pin());
  expect(told(stored("one", "changed", pin()), stored("two", "unsigned", off(day(2))))).toBeUndefined();
});
