import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  isPolicyNew,
  isRoutine,
  rememberCleaned,
  rememberPolicy,
} from "../../../src/engine/cleanup/policyMark.js";
import type { Site } from "../../../src/engine/site.js";

const DAY_MS = 86_400_000;
const NOW = Date.UTC(2026, 10, 20, 6);

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "jbackup-mark-"));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

const siteAt = (days: number, local = "30d"): Site =>
  ({
    config: { home, site: "shop", retention: { perStorage: { local: { within: local } } } },
    clock: { now: () => new Date(NOW + days * DAY_MS) },
  }) as unknown as Site;

test("the first cleanup of all is no routine: whoever wrote the policy looks at what it does", async () => {
  expect(await isRoutine(siteAt(0))).toBe(false);
});

test("within eight days of one by the same rules it is, and then no more", async () => {
  await rememberCleaned(siteAt(0));
  expect([await isRoutine(siteAt(0)), await isRoutine(siteAt(7)), await isRoutine(siteAt(8))]).toEqual([
    true,
    true,
    true,
  ]);
  expect(await isRoutine(siteAt(8.01))).toBe(false);
});

test("other rules are no routine, however fresh, and neither is a cleanup of the future", async () => {
  await rememberCleaned(siteAt(0));
  expect(await isRoutine(siteAt(1, "7d"))).toBe(false);
  expect(await isRoutine(siteAt(-1))).toBe(false);
});

test("a policy is new when it is another one than last time, and never the first time", async () => {
  expect(await isPolicyNew(siteAt(0))).toBe(false);
  await rememberPolicy(siteAt(0));
  expect([await isPolicyNew(siteAt(30)), await isPolicyNew(siteAt(0, "7d"))]).toEqual([false, true]);
});
