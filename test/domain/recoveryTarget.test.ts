import { describe, expect, test } from "vitest";
import { parseTarget, targetSettings } from "../../src/domain/recoveryTarget.js";

describe("--to", () => {
  test.each([
    ["latest", { kind: "latest" }],
    ["3/a1b2c3d0", { kind: "lsn", lsn: "3/A1B2C3D0" }],
    ["before_upgrade", { kind: "name", name: "before_upgrade" }],
    [
      "2026-11-20T13:59:30.123456Z",
      {
        kind: "time",
        at: new Date("2026-11-20T13:59:30.123Z"),
        text: "2026-11-20 13:59:30.123456+00",
      },
    ],
    [
      "2026-11-20 13:59+0130",
      { kind: "time", at: new Date("2026-11-20T12:29:00Z"), text: "2026-11-20 13:59:00+01:30" },
    ],
    [
      "2026-11-20 +02",
      { kind: "time", at: new Date("2026-11-19T22:00:00Z"), text: "2026-11-20 00:00:00+02:00" },
    ],
  ])("%s is understood", (given, target) => {
    expect(parseTarget(given)).toEqual(target);
  });

  test.each([
    ["", "empty"],
    ["2026-11-20T13:59:30", "has no zone"],
    ["2026-11-20", "has no zone"],
    ["2026-02-30T00:00:00Z", "no such time"],
    ["2026-13-01T00:00:00Z", "no such time"],
    ["2026-11-20 at noon", "cannot be read"],
    ["x".repeat(64), "too long"],
    ["now", "is no moment"],
    ["yesterday", "is no moment"],
    ["2h", "is no moment"],
    ["30 minutes", "is no moment"],
    ["12:30", "is no moment"],
  ])("%s is refused", (given, why) => {
    expect(() => parseTarget(given)).toThrow(why);
  });

  test("a time without a zone is answered with the time to type", () => {
    expect(() => parseTarget("2026-11-20 13:59")).toThrow(
      expect.objectContaining({ hint: expect.stringContaining("2026-11-20T13:59:00Z") }),
    );
  });

  test("only the end of the WAL needs no stop", () => {
    expect(targetSettings({ kind: "latest" }, "latest")).not.toHaveProperty("recovery_target_action");
    expect(targetSettings({ kind: "lsn", lsn: "0/1" }, 3)).toMatchObject({
      recovery_target_timeline: "3",
      recovery_target_lsn: "0/1",
      recovery_target_action: "pause",
    });
  });
});
