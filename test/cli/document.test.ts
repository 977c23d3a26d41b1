import { PassThrough, Writable } from "node:stream";
import fc from "fast-check";
import { expect, it } from "vitest";
import { documentPieces } from "../../src/cli/document.js";
import { Output } from "../../src/cli/output.js";
import { systemClock } from "../../src/sys/clock.js";
import { Pile } from "../../src/sys/pile.js";

const as = (value: unknown, spaces: number): string =>
  [...documentPieces(value, spaces, (inner) => inner)].join("");

const some = fc.anything({ withDate: true, withNullPrototype: true, maxDepth: 4 }).filter((value) => {
  try {
    return JSON.stringify(value) !== undefined;
  } catch {
    return false; // numbers too large for JSON
  }
});

it("is what JSON has for it, whatever it is", () => {
  fc.assert(
    fc.property(some, fc.constantFrom(0, 2), (value, spaces) => {
      expect(as(value, spaces)).toBe(`${JSON.stringify(JSON.parse(JSON.stringify(value)), null, spaces)}\n`);
    }),
    { numRuns: 1_000 },
  );
  expect(as(undefined, 2)).toBe("null\n");
  expect(as([undefined, () => 1], 0)).toBe("[null,null]\n");
});

it("takes the records of a pile for a list, and hands a long list over in pieces", () => {
  const pile = new Pile<{ nth: number; text: string }>();
  const records = Array.from({ length: 5_000 }, (_, nth) => ({ nth, text: "a record of some length\n" }));
  for (const record of records) pile.add(record.nth, record);
  const value = { status: "completed", backups: pile, failed: [] };
  expect(as(value, 2)).toBe(`${JSON.stringify({ ...value, backups: records }, null, 2)}\n`);
  const pieces = [...documentPieces(value, 2, (inner) => inner)];
  expect(pieces.length).toBeGreaterThan(4);
  for (const piece of pieces) expect(piece.length).toBeLessThan(70_000);
});

it("cleans every value and every name", () => {
  const clean = (value: unknown): unknown => JSON.parse(JSON.stringify(value).replaceAll("secret", "***"));
  const pieces = [...documentPieces({ "a secret": ["secret"], b: "secret" }, 0, clean)];
  expect(pieces.join("")).toBe('{"a ***":["***"],"b":"***"}\n');
});

it("waits for whoever reads it slowly, and holds next to nothing meanwhile", async () => {
  let text = "";
  let most = 0;
  const slow = new Writable({
    write(chunk: Buffer, _encoding, done) {
      most = Math.max(most, slow.writableLength);
      text += chunk.toString();
      setTimeout(done, 1);
    },
  });
  const stderr = new PassThrough();
  const flags = { json: true, quiet: false, verbose: false, noColor: true, forceColor: false };
  const output = new Output({ stdout: slow, stderr, ...flags, clock: systemClock });
  const records = Array.from({ length: 20_000 }, (_, nth) => ({ nth, text: "a record of some length" }));
  output.answer(records, "");
  await output.flushed();
  expect(JSON.parse(text)).toEqual(records);
  expect(most).toBeLessThan(200_000);
});

it("ends when its reader has seen enough", async () => {
  const gone = new Writable({
    write: (_chunk, _encoding, done) => done(Object.assign(new Error("gone"), { code: "EPIPE" })),
  });
  const stderr = new PassThrough();
  const flags = { json: true, quiet: false, verbose: false, noColor: true, forceColor: false };
  const output = new Output({ stdout: gone, stderr, ...flags, clock: systemClock });
  output.answer(
    Array.from({ length: 20_000 }, (_, nth) => ({ nth })),
    "",
  );
  expect(await output.flushed()).toBeUndefined();
});
