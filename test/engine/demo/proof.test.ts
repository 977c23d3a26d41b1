import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Fingerprint, folderPrint, folderPrints, prove } from "../../../src/engine/demo/proof.js";

const print = (what: string, rows: number, sha256: string): Fingerprint => ({ what, rows, sha256 });
const EXPECTED = [print("a", 2, "aa"), print("b", 0, "bb")];

test("what is equal in every line is proved, with what was expected and what was seen", () => {
  expect(prove("all", EXPECTED, EXPECTED.toReversed())).toEqual({
    of: "all",
    lines: [
      { what: "a", rows: 2, expected: "aa", seen: "aa" },
      { what: "b", rows: 0, expected: "bb", seen: "bb" },
    ],
  });
});

test.each([
  ["other rows", [print("a", 2, "ab"), print("b", 0, "bb")], "a"],
  ["another number of rows", [print("a", 3, "aa"), print("b", 0, "bb")], "a"],
  ["a table less", [print("a", 2, "aa")], "b"],
  ["a table more", [...EXPECTED, print("c", 1, "cc")], "c"],
  ["nothing at all", [], "a, b"],
])("%s are no proof", (_, seen, named) => {
  expect(() => prove("all", EXPECTED, seen)).toThrow(`all: what came back differs in ${named}`);
});

test("nothing expected proves nothing", () => {
  expect(() => prove("all", [], [])).toThrow("all: what came back differs");
});

test("a folder's print changes with every byte, name and file, not with the site's marker", async () => {
  const folder = mkdtempSync(join(tmpdir(), "jbackup-prints-"));
  try {
    const now = async () => folderPrint("disk", await folderPrints(folder)).sha256;
    writeFileSync(join(folder, "one"), "1");
    const first = await now();
    writeFileSync(join(folder, "jbackup-site.json"), "{}");
    expect(await now()).toBe(first);
    writeFileSync(join(folder, "one"), "2");
    const second = await now();
    writeFileSync(join(folder, "two"), "2");
    expect(new Set([first, second, await now()]).size).toBe(3);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
