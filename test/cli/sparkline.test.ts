import { expect, it } from "vitest";
import { sparkline } from "../../src/cli/sparkline.js";

it("draws a course from its least to its most", () => {
  expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8, true)).toBe("▁▂▃▄▅▆▇█");
  expect(sparkline([0, 7, 0], 8, false)).toBe("_#_");
});

it("keeps the first and the last of many", () => {
  const line = sparkline(
    Array.from({ length: 30 }, (_, at) => at),
    8,
    true,
  );
  expect(line).toHaveLength(8);
  expect([line.at(0), line.at(-1)]).toEqual(["▁", "█"]);
});

it("is flat where nothing changes, and says so where there is nothing", () => {
  expect(sparkline([5, 5, 5], 8, true)).toBe("▁▁▁");
  expect(sparkline([5], 8, true)).toBe("-");
});
