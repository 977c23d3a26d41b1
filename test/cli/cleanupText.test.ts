import { expect, test } from "vitest";
import { type CleanupRow, cleanupText } from "../../src/cli/cleanupText.js";

const TENANT = "tenant-7f3c2b1a-0000-4000-8000-000000000001-20261120-030000";
const NEWEST = "the newest good one of its kind";
const GONE =
  "the last one of a tenant who is gone since 2026-11-01T03:00:00.000Z: kept until 2026-12-01T03:00:00.000Z";
const ROWS: CleanupRow[] = [
  { backup: "full-20261120-020000", storage: "near", does: "keep", why: NEWEST },
  { backup: TENANT, storage: "near", does: "keep", why: GONE },
  { backup: "full-20261013-020000", storage: "near", does: "remove", why: "no rule keeps it" },
  { backup: "full-20261012-020000", storage: "near", does: "remove", why: "no rule keeps it" },
  { backup: "full-20261120-020000", storage: "far", does: "keep", why: NEWEST },
];

test("what fits is a table, and so is what goes into a file", () => {
  const short = ROWS.filter(({ backup }) => backup !== TENANT);
  expect(cleanupText(short, 80).split("\n")[3]).toBe(
    "full-20261012-020000  near     remove  no rule keeps it",
  );
  expect(cleanupText(ROWS, Number.POSITIVE_INFINITY).split("\n")).toHaveLength(6);
});

test.each([80, 60])("in %i columns every backup, storage and reason is there, whole", (columns) => {
  const text = cleanupText(ROWS, columns);
  for (const line of text.split("\n")) expect(line.length).toBeLessThanOrEqual(columns);
  expect(text.replaceAll(/\n(?! |tenant-|near|far)/g, " ")).toBe(
    [
      `near, keep: ${NEWEST}`,
      "  full-20261120-020000",
      `near, keep: ${GONE}`,
      columns === 80 ? `  ${TENANT}` : TENANT,
      "near, remove: no rule keeps it",
      "  full-20261013-020000",
      "  full-20261012-020000",
      `far, keep: ${NEWEST}`,
      "  full-20261120-020000",
    ].join("\n"),
  );
});
