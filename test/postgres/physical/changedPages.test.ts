import { describe, expect, test } from "vitest";
import { ChangedPages, type SummaryRow } from "../../../src/postgres/physical/changedPages.js";

const PAGE = 8192;
const SEGMENT = 131_072;

const row = (more: Partial<SummaryRow>): SummaryRow => ({
  relation: "16400",
  tablespace: "1663",
  database: "5",
  fork: 0,
  block: 0,
  isLimit: false,
  ...more,
});

function changed(...rows: Partial<SummaryRow>[]): ChangedPages {
  const pages = new ChangedPages();
  for (const one of rows) pages.add(row(one));
  return pages;
}

const PATH = "base/5/16400";
const span = (from: number, to: number) => ({ start: from * PAGE, end: to * PAGE });

describe("which spans of a file must be read", () => {
  test("none, when its relation does not occur", () => {
    expect(changed({ relation: "1" }).spansOf(PATH, 10 * PAGE, 10 * PAGE, PAGE)).toEqual([]);
  });

  test("the changed pages, neighbours as one span", () => {
    const pages = changed({ block: 7 }, { block: 3 }, { block: 4 });
    expect(pages.spansOf(PATH, 10 * PAGE, 10 * PAGE, PAGE)).toEqual([span(3, 5), span(7, 8)]);
  });

  test("whole blocks, where blocks hold several pages, up to the end of the file", () => {
    const pages = changed({ block: 1 }, { block: 9 });
    expect(pages.spansOf(PATH, 10 * PAGE, 10 * PAGE, 4 * PAGE)).toEqual([span(0, 4), span(8, 10)]);
  });

  test("pages of the file's own segment only", () => {
    const pages = changed({ block: 3 }, { block: SEGMENT + 5 });
    expect(pages.spansOf(`${PATH}.1`, 10 * PAGE, 10 * PAGE, PAGE)).toEqual([span(5, 6)]);
  });

  test("what the file has grown by, with the block that the old end lies in", () => {
    expect(changed().spansOf(PATH, 10 * PAGE, 6 * PAGE, 4 * PAGE)).toEqual([span(4, 10)]);
  });

  test("the block in which a file that shrank now ends", () => {
    expect(changed().spansOf(PATH, 6 * PAGE, 10 * PAGE, 4 * PAGE)).toEqual([span(4, 6)]);
  });

  test("everything from a limit on", () => {
    expect(changed({ isLimit: true, block: 4 }).spansOf(PATH, 10 * PAGE, 10 * PAGE, PAGE)).toEqual([
      span(4, 10),
    ]);
  });
});

describe("a file is read whole", () => {
  test.each([
    ["when its relation was made anew or cut at its front", changed({ isLimit: true, block: 0 }), PATH],
    ["when a limit lies before its segment", changed({ isLimit: true, block: 9 }), `${PATH}.1`],
    ["when its database was copied as files", changed({ relation: "0", isLimit: true }), PATH],
    ["when it is a free space map", changed(), `${PATH}_fsm`],
    ["when it is an init fork", changed(), `${PATH}_init`],
    ["when it is no relation's", changed(), "pg_xact/0000"],
  ])("%s", (_, pages, path) => expect(pages.spansOf(path, 10 * PAGE, 10 * PAGE, PAGE)).toBeNull());

  test("when its size is no multiple of a page, now or before", () => {
    expect(changed().spansOf(PATH, 10 * PAGE + 1, 10 * PAGE, PAGE)).toBeNull();
    expect(changed().spansOf(PATH, 10 * PAGE, 10 * PAGE - 512, PAGE)).toBeNull();
  });
});

test("tablespaces and shared relations are told apart", () => {
  const pages = changed(
    { tablespace: "16999", block: 1 },
    { tablespace: "1664", database: "0", relation: "1262", block: 2 },
  );
  expect(pages.spansOf(PATH, 4 * PAGE, 4 * PAGE, PAGE)).toEqual([]);
  expect(pages.spansOf("pg_tblspc/16999/PG_18_1/5/16400", 4 * PAGE, 4 * PAGE, PAGE)).toEqual([span(1, 2)]);
  expect(pages.spansOf("global/1262", 4 * PAGE, 4 * PAGE, PAGE)).toEqual([span(2, 3)]);
});
