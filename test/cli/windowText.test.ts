import { expect, test } from "vitest";
import { windowText } from "../../src/cli/wizards/windowText.js";

const now = new Date("2026-11-25T12:00:00Z");
const moment = (at: string) => ({ at: `2026-11-${at}:00.000Z`, lsn: "0/1" });

test("the moments that can be reached are drawn, with what is missing", () => {
  const lines = windowText(
    {
      window: { from: moment("20T00:00"), to: moment("25T11:58") },
      bases: [
        { id: "b", label: "b", timeline: 1, from: moment("24T00:00"), to: moment("25T11:58"), hole: null },
        { id: "a", label: "a", timeline: 1, from: moment("20T00:00"), to: moment("21T00:00"), hole: "here" },
      ],
      holes: [{ timeline: 1, from: "0/5", to: "0/9" }],
    },
    now,
  );
  expect(lines[0]).toMatch(/^ {2}\[\|=+ +\|=+\]$/);
  expect(lines[1]).toBe("  any moment from 2026-11-20T00:00:00.000Z to 2026-11-25T11:58:00.000Z (2 min ago)");
  expect(lines[2]).toBe("  missing: 0/5 to 0/9 on timeline 1");
});

test("without WAL only the ends of backups can be reached", () => {
  expect(windowText({ window: null, bases: [], holes: [] }, now)).toHaveLength(1);
});
