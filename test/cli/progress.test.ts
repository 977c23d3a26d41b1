import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { startPace } from "../../src/cli/pace.js";
import { barLine } from "../../src/cli/progress.js";
import { widthOf } from "../../src/cli/table.js";
import type { Progress } from "../../src/engine/site.js";
import { type Captures, captureOutput, HandClock } from "./captured.js";

const dumping = (done: number, total: number | null = 1_000_000_000): Progress => ({
  task: "dumping shop",
  done,
  total,
  unit: "bytes",
});

/** Reports at 10 MB a second, once every tenth of a second. */
function work(
  { output, clock }: Captures,
  fromMs: number,
  toMs: number,
  total: number | null = 1_000_000_000,
): void {
  for (let ms = fromMs; ms <= toMs; ms += 100) {
    clock.ms = ms;
    output.report.progress(dumping(ms * 10_000, total));
  }
}

describe("without a terminal", () => {
  test("a line after two seconds, then one every ten", () => {
    const captures = captureOutput();
    work(captures, 0, 23_000);
    expect(captures.stderr.text).toBe(
      [
        "dumping shop: 20.0 MB of 1.0 GB, 10.0 MB/s, 1 min 38 s left",
        "dumping shop: 120 MB of 1.0 GB, 10.0 MB/s, 1 min 28 s left",
        "dumping shop: 220 MB of 1.0 GB, 10.0 MB/s, 1 min 18 s left",
        "",
      ].join("\n"),
    );
    expect(captures.stdout.text).toBe("");
  });

  test("short work says nothing", () => {
    const captures = captureOutput();
    work(captures, 0, 1_900);
    captures.output.report.progressEnd();
    expect(captures.stderr.text).toBe("");
  });

  test("another task begins anew", () => {
    const captures = captureOutput();
    work(captures, 0, 3_000);
    captures.output.report.progressEnd();
    work(captures, 4_000, 5_900);
    expect(captures.stderr.text.split("\n")).toHaveLength(2);
    work(captures, 6_000, 6_000);
    expect(captures.stderr.text.split("\n")[1]).toBe(
      "dumping shop: 60.0 MB of 1.0 GB, 10.0 MB/s, 1 min 34 s left",
    );
  });

  test("where the end is not known, none is foretold", () => {
    const captures = captureOutput();
    work(captures, 0, 2_000, null);
    expect(captures.stderr.text).toBe("dumping shop: 20.0 MB, 10.0 MB/s\n");
  });
});

test("under --json, an object a second", () => {
  const captures = captureOutput({ json: true });
  work(captures, 0, 2_500);
  const events = captures.stderr.text.trimEnd().split("\n");
  expect(events.map((line) => JSON.parse(line).done)).toEqual([0, 10_000_000, 20_000_000]);
  expect(events[0]).toBe(
    '{"event":"progress","task":"dumping shop","done":0,"total":1000000000,"unit":"bytes"}',
  );
  expect(captures.stdout.text).toBe("");
});

test.each([{ json: true }, { json: false }])("with --quiet nothing but warnings: %o", (settings) => {
  const captures = captureOutput({ ...settings, quiet: true }, { stderr: 80 });
  work(captures, 0, 60_000);
  captures.output.report.info("by the way");
  captures.output.report.progressEnd();
  expect(captures.stderr.text).toBe("");
  captures.output.report.warn("look here");
  expect(captures.stderr.text).toContain("look here");
});

describe("the rate", () => {
  test("is that of the last while, not of the whole task", () => {
    const clock = new HandClock();
    const pace = startPace(clock);
    let done = 0;
    for (let second = 0; second <= 120; second++) {
      clock.ms = second * 1_000;
      done += second < 60 ? 100 : 10;
      pace.at({ ...dumping(done, null) });
    }
    expect(pace.at(dumping(done, done + 100))).toMatchObject({
      perSecond: 10,
      leftMs: 10_000,
      elapsedMs: 120_000,
    });
  });
});

describe("a line on a terminal", () => {
  const standing = { isNew: false, elapsedMs: 9_000, perSecond: 48_300_000, leftMs: 23_000 };
  const state: Progress = { ...dumping(412_000_000, 2_000_000_000), extra: "3.1x smaller" };

  test.each([
    [
      119,
      "dumping shop ██████░░░░░░░░░░░░░░░░░░░░░░░░ 20% 412 MB of 2.0 GB, 48.3 MB/s, 23.0 s left, 3.1x smaller",
    ],
    [79, "dumping shop 20% 412 MB of 2.0 GB, 48.3 MB/s, 23.0 s left, 3.1x smaller"],
    [59, "dumping shop 20% 412 MB of 2.0 GB, 48.3 MB/s, 23.0 s left"],
    [39, "dumping shop 20% 48.3 MB/s, 23.0 s left"],
    [27, "dumping sh… 20% 23.0 s left"],
  ])("of %i places", (places, line) => {
    expect(barLine(state, standing, places)).toBe(line);
  });

  test("never wraps", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme", minLength: 1 }),
        fc.nat(2 ** 31),
        fc.option(fc.nat(2 ** 31)),
        fc.integer({ min: 1, max: 200 }),
        (task, done, total, places) => {
          const line = barLine({ task, done, total, unit: "rows" }, standing, places);
          expect(widthOf(line)).toBeLessThanOrEqual(places);
        },
      ),
    );
  });
});

describe("the bar", () => {
  const drawn = async (captures: Captures): Promise<void> => {
    work(captures, 0, 2_100);
    await delay(300); // the package is loaded when there is something to draw
    work(captures, 2_200, 2_300);
  };

  test("closes cleanly: the line is cleared, wrapping is on again", async () => {
    const captures = captureOutput({}, { stderr: 40 });
    await drawn(captures);
    expect(captures.stderr.text).toContain("dumping shop 2% 1 min 38 s left");
    captures.output.report.progressEnd();
    const { text } = captures.stderr;
    expect(text.lastIndexOf("\u001b[?7h")).toBeGreaterThan(text.lastIndexOf("\u001b[?7l"));
    expect(text.endsWith("\u001b[2K")).toBe(true);
    await delay(300);
    expect(captures.stderr.text).toBe(text);
    expect(captures.stdout.text).toBe("");
  });

  test("makes room for a warning, then goes on at the same rate", async () => {
    const captures = captureOutput({ noColor: true }, { stderr: 80 });
    await drawn(captures);
    captures.output.report.warn("storage b2 is slow");
    const { length } = captures.stderr.text;
    expect(captures.stderr.text.endsWith("\u001b[2KWarning: storage b2 is slow\n")).toBe(true);
    work(captures, 2_400, 2_500);
    expect(captures.stderr.text.slice(length)).toContain("24.0 MB of 1.0 GB, 10.0 MB/s");
    captures.output.report.progressEnd();
  });
});
