import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ERROR_CODES, EXIT_CODES, JBackupError } from "../../src/domain/errors.js";
import { folderOf, idProblem, labelOf, parseManifestKey, pickOne } from "../../src/domain/reference.js";
import { planRestore, type RestoreFacts, type RestoreRequest } from "../../src/domain/restorePlan.js";
import { editDistance, nearest } from "../../src/domain/similar.js";
import { compactTime, parseDuration, parseInstant } from "../../src/domain/time.js";
import { uuid7 } from "../../src/sys/ids.js";

const NOW = new Date("2026-11-20T02:00:00Z");

describe("durations and instants", () => {
  test.each([
    ["30d", 2_592_000_000],
    ["1h30m", 5_400_000],
    ["5m", 300_000],
    ["1y", 31_536_000_000],
    ["500ms", 500],
  ])("%s is %d ms", (text, ms) => expect(parseDuration(text)).toBe(ms));

  test.each(["", "30", "d", "1h 30m", "-1h", "1h!", "soon"])("%j is no duration", (text) =>
    expect(parseDuration(text)).toBeNull(),
  );

  test("an instant needs a zone, unless it is a day or a span back from now", () => {
    expect(parseInstant("2h", NOW)).toEqual({ ok: true, at: new Date("2026-11-20T00:00:00Z") });
    expect(parseInstant("2026-11-19", NOW)).toEqual({ ok: true, at: new Date("2026-11-19T00:00:00Z") });
    expect(parseInstant("2026-11-19 03:00+01", NOW)).toEqual({
      ok: true,
      at: new Date("2026-11-19T02:00:00Z"),
    });
    expect(parseInstant("2026-11-19T03:00:00", NOW)).toEqual({ ok: false, problem: "no_zone" });
    expect(parseInstant("2026-13-45T00:00:00Z", NOW)).toEqual({ ok: false, problem: "not_a_time" });
    expect(parseInstant("yesterday", NOW)).toEqual({ ok: false, problem: "not_a_time" });
  });

  test("any instant in ISO form is read back", () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date("1990-01-01"), max: new Date("2090-01-01"), noInvalidDate: true }),
        (at) => {
          expect(parseInstant(at.toISOString(), NOW)).toEqual({ ok: true, at });
        },
      ),
    );
  });
});

describe("references to backups", () => {
  const backups = [
    { id: "019a0001-aaaa", label: "full-20261120-020000" },
    { id: "019a0002-bbbb", label: "full-20261120-020001" },
    { id: "019b0003-cccc", label: "full-20261121-020000" },
  ];

  test("an exact label or id, or a unique beginning of either, means one backup", () => {
    expect(pickOne("full-20261120-020000", backups)?.id).toBe("019a0001-aaaa");
    expect(pickOne("019b", backups)?.id).toBe("019b0003-cccc");
    expect(pickOne("full-20261121", backups)?.id).toBe("019b0003-cccc");
    expect(pickOne("nothing", backups)).toBeNull();
  });

  test("an ambiguous one names what it could mean", () => {
    expect(() => pickOne("full-20261120", backups)).toThrow(
      '"full-20261120" means 2 backups: full-20261120-020000 (019a0001-aaaa), full-20261120-020001 (019a0002-bbbb)',
    );
  });

  test("those that began in the same second are told apart by their ids", () => {
    const twins = backups.map((one) => ({ ...one, label: "full-20261120-020000" }));
    expect(() => pickOne("full-20261120-020000", twins)).toThrow(
      expect.objectContaining({ hint: "they began in the same second and share a label: give the id" }),
    );
  });

  test("a folder's manifest leads back to its backup", () => {
    const id = uuid7({ now: () => NOW, monotonicMs: () => 0 });
    for (const [kind, tenantId] of [
      ["full", null],
      ["config", null],
      ["tenant", "acme-1"],
    ] as const) {
      const folder = folderOf(kind, id, NOW, tenantId);
      expect(parseManifestKey(`${folder}/manifest.json`)).toEqual({ folder, id, kind, tenantId });
      expect(parseManifestKey(`${folder}/data/000001.jbk`)).toBeNull();
    }
    expect(folderOf("full", "X", NOW)).toBe("backups/full/2026/11/X");
    expect(labelOf("full", NOW)).toBe("full-20261120-020000");
    expect(compactTime(NOW)).toBe("20261120-020000");
  });

  test("an id that no folder or label can hold is told before anything is stored", () => {
    for (const id of ["a", "..", "a/b c", "テ".repeat(22), "x".repeat(200)]) expect(idProblem(id)).toBeNull();
    expect(idProblem("")).toBe("an empty id names no folder");
    expect(idProblem("a\tb")).toContain("control characters");
    expect(idProblem("テ".repeat(29))).toBe(
      "its id takes 261 characters as the name of a folder, and 200 are the most",
    );
    expect(idProblem("x".repeat(201))).toContain("takes 201 characters");
  });

  test("ids sort by the time they were made", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 2 ** 47 }),
        fc.integer({ min: 1, max: 1_000_000 }),
        (at, later) => {
          const idAt = (ms: number): string => uuid7({ now: () => new Date(ms), monotonicMs: () => 0 });
          expect(idAt(at) < idAt(at + later)).toBe(true);
          expect(idAt(at)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
        },
      ),
    );
  });
});

describe("similar words", () => {
  test("a typo finds what was meant; something else finds nothing", () => {
    expect(nearest("bakcup", ["backup", "restore"])).toBe("backup");
    expect(nearest("xyzzy", ["backup", "restore"])).toBeUndefined();
  });

  test("the distance is a metric", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
        expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
      }),
    );
  });
});

describe("errors", () => {
  test("every code ends in a documented exit code", () => {
    for (const code of Object.values(ERROR_CODES)) expect(EXIT_CODES).toHaveProperty(String(code));
    expect(new JBackupError("locked", "x").exitCode).toBe(11);
  });
});

describe("a restore plan", () => {
  const request: RestoreRequest = {
    reference: "latest",
    mode: "full",
    intoDatabase: null,
    to: null,
    inPlace: false,
    onConflict: "skip",
    tables: [],
    reason: "r",
    jobs: 4,
  };
  const facts: RestoreFacts = {
    backup: { id: "i", label: "l", createdAt: "t", database: "shop", tables: 2, rows: 10, rawBytes: 1 },
    target: "shop",
    moment: null,
    timeline: null,
    targetExists: true,
    storages: ["local"],
    warnings: [],
  };

  test.each([
    ["a database that is gone is made anew and asks for nothing", {}, { targetExists: false }, "new", null],
    ["a live one is swapped, and its name must be typed", {}, {}, "swap", "shop"],
    ["in place overwrites", { inPlace: true }, {}, "in-place", "shop"],
    ["a merge that only adds asks for nothing", { mode: "merge" }, {}, "merge", null],
    ["a merge that overwrites asks", { mode: "merge", onConflict: "overwrite" }, {}, "merge", "shop"],
  ] as const)("%s", (_, wanted, known, way, overwrites) => {
    const plan = planRestore({ ...request, ...wanted }, { ...facts, ...known });
    expect(plan.way).toBe(way);
    expect(plan.overwrites).toBe(overwrites);
    expect(plan.steps.length).toBeGreaterThan(2);
  });
});
