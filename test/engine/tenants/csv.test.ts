import fc from "fast-check";
import { expect, test } from "vitest";
import { csvOfCopy } from "../../../src/engine/tenants/csv.js";

/** As PostgreSQL writes a value in COPY's text format. */
const copied = (value: string | null): string =>
  value === null
    ? "\\N"
    : value.replace(
        /[\\\b\f\n\r\t\v]/g,
        (letter) =>
          `\\${{ "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v" }[letter]}`,
      );

/** A reader of RFC 4180 of the test's own, which tells nothing from an empty text. */
function parse(csv: string): (string | null)[][] {
  const rows: (string | null)[][] = [];
  let row: (string | null)[] = [];
  for (let at = 0; at < csv.length; ) {
    let value: string | null;
    if (csv[at] === '"') {
      let text = "";
      for (at++; ; at++) {
        if (csv[at] !== '"') text += csv[at];
        else if (csv[at + 1] === '"') {
          text += '"';
          at++;
        } else break;
      }
      at++;
      value = text;
    } else {
      const end = csv.slice(at).search(/,|\r\n/);
      value = end === 0 ? null : csv.slice(at, at + end);
      at += end;
    }
    row.push(value);
    if (csv[at] === ",") at++;
    else {
      rows.push(row);
      row = [];
      at += 2;
    }
  }
  return rows;
}

const value = fc.option(
  fc.oneof(fc.string(), fc.constantFrom("", '"', "a,b", "x\r\ny", "\\N", "\t", "é世")),
  { nil: null },
);

test("whatever the values, CSV says the same as COPY, however the bytes come in", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(value, value, value), { maxLength: 6 }),
      fc.integer({ min: 1, max: 9 }),
      async (rows, piece) => {
        const text = Buffer.from(rows.map((row) => `${row.map(copied).join("\t")}\n`).join(""));
        async function* pieces(): AsyncGenerator<Buffer> {
          for (let at = 0; at < text.length; at += piece) yield text.subarray(at, at + piece);
        }
        const chunks: Buffer[] = [];
        for await (const chunk of csvOfCopy(pieces(), ["a", 'b"', "c,d"])) chunks.push(chunk);
        expect(parse(Buffer.concat(chunks).toString("utf8"))).toEqual([["a", 'b"', "c,d"], ...rows]);
      },
    ),
  );
});
