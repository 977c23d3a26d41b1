import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Column, shortened, tableText, widthOf, wrapped } from "../../src/cli/table.js";
import { agoText, bytesText, durationText, printable } from "../../src/cli/text.js";

interface Row {
  name: string;
  size: number;
  note: string;
}

const COLUMNS: Column<Row>[] = [
  { title: "NAME", value: ({ name }) => name, rank: 0 },
  { title: "SIZE", value: ({ size }) => String(size), align: "right", rank: 1 },
  { title: "NOTE", value: ({ note }) => note, rank: 2, most: 12 },
];
const ROWS: Row[] = [
  { name: "日本語", size: 5, note: "wide" },
  { name: "café", size: 12345, note: "" },
  { name: "👩‍👩‍👧", size: 70, note: "a family is one letter" },
];

describe("a table", () => {
  test("is aligned, with wide letters and letters of several parts", () => {
    expect(tableText(ROWS, COLUMNS, Number.POSITIVE_INFINITY)).toBe(
      [
        "NAME     SIZE  NOTE",
        "日本語      5  wide",
        "café    12345",
        "👩‍👩‍👧         70  a family is one letter",
      ].join("\n"),
    );
  });

  test("drops its least important columns in a narrow terminal, then cuts the last one", () => {
    expect(tableText(ROWS, COLUMNS, 40).split("\n")[3]).toBe("👩‍👩‍👧         70  a family is…");
    expect(tableText(ROWS, COLUMNS, 20)).toBe(
      ["NAME     SIZE", "日本語      5", "café    12345", "👩‍👩‍👧         70"].join("\n"),
    );
    expect(tableText(ROWS, COLUMNS, 8)).toBe(["NAME", "日本語", "café", "👩‍👩‍👧"].join("\n"));
    expect(tableText(ROWS, COLUMNS, 4)).toBe(["NAME", "日…", "café", "👩‍👩‍👧"].join("\n"));
  });

  test("never wraps in a terminal that is as wide as its titles", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            name: fc.string({ unit: "grapheme" }),
            size: fc.integer(),
            note: fc.string({ unit: "binary" }),
          }),
        ),
        fc.integer({ min: 4, max: 60 }),
        (rows, places) => {
          const lines = tableText(rows, COLUMNS, places).split("\n");
          expect(lines).toHaveLength(rows.length + 1);
          for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(places);
        },
      ),
    );
  });

  test("shows control characters instead of obeying them, and lines as one", () => {
    const [, row] = tableText([{ name: "a\u001b[2Jb\n  c", size: 1, note: "" }], COLUMNS, 80).split("\n");
    expect(row).toBe("a\\x1b[2Jb c     1");
  });

  test("is painted after it is laid out", () => {
    const columns = COLUMNS.map((column) => ({ ...column, paint: (text: string) => `<${text}>` }));
    expect(tableText(ROWS.slice(1, 2), columns, 80, (title) => `[${title}]`)).toBe(
      "[NAME   SIZE  NOTE]\n<café>  <12345>  <>",
    );
  });
});

test("a text is cut to what fits", () => {
  expect(shortened("abcdef", 6)).toBe("abcdef");
  expect(shortened("abcdef", 5)).toBe("abcd…");
  expect(shortened("日本語", 5)).toBe("日本…");
  expect(shortened("日本語", 4)).toBe("日…");
});

test("wrapping breaks at spaces only, and loses nothing", () => {
  expect(wrapped("one two three", 7)).toEqual(["one two", "three"]);
  expect(wrapped("a verylongword b", 5)).toEqual(["a", "verylongword", "b"]);
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[a-z]{1,12}$/), { minLength: 1 }),
      fc.integer({ min: 1, max: 40 }),
      (words, places) => {
        const text = words.join(" ");
        const lines = wrapped(text, places);
        expect(lines.join(" ")).toBe(text);
        for (const line of lines) expect(line.length <= places || !line.includes(" ")).toBe(true);
      },
    ),
  );
});

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1_000, "1.0 kB"],
  [99_950, "100 kB"],
  [999_499, "999 kB"],
  [999_500, "1.0 MB"],
  [1_234_567_890, "1.2 GB"],
  [5e18, "5000 PB"],
])("%d bytes read %s", (bytes, text) => {
  expect(bytesText(bytes)).toBe(text);
});

test.each([
  [0, "0 ms"],
  [999.4, "999 ms"],
  [999.6, "1.0 s"],
  [59_940, "59.9 s"],
  [59_960, "1 min 0 s"],
  [3_599_999, "1 h 0 min"],
  [90_061_000, "25 h 1 min"],
])("%d ms read %s", (ms, text) => {
  expect(durationText(ms)).toBe(text);
});

test.each([
  ["2026-11-20T11:59:30Z", "just now"],
  ["2026-11-20T11:59:00Z", "1 min ago"],
  ["2026-11-20T09:00:00Z", "3 h ago"],
  ["2026-11-19T11:00:00Z", "1 d ago"],
  ["2026-11-06T11:00:00Z", "2 w ago"],
  ["2024-11-06T11:00:00Z", "2 y ago"],
  ["2026-11-20T14:00:00Z", "in 2 h"],
])("%s was %s", (at, text) => {
  expect(agoText(at, new Date("2026-11-20T12:00:00Z"))).toBe(text);
});

test("control characters are shown, lines stay lines", () => {
  expect(printable("a\u0007\u001b[31m\u009b1m\tb\nc")).toBe("a\\x07\\x1b[31m\\x9b1m\\x09b\nc");
});
