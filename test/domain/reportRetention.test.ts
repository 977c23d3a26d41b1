import { expect, test } from "vitest";
import { expiredReports, reportsStayMs } from "../../src/domain/reportRetention.js";

const DAY_MS = 86_400_000;

test("reports stay for 400 days, or as long as the rule that reaches back the longest", () => {
  expect(reportsStayMs([])).toBe(400 * DAY_MS);
  expect(reportsStayMs([{ withinMs: 30 * DAY_MS, daily: 30, weekly: 12, monthly: 12 }, { last: 9999 }])).toBe(
    400 * DAY_MS,
  );
  expect(reportsStayMs([{ yearly: 7 }, { withinMs: 500 * DAY_MS }])).toBe(7 * 366 * DAY_MS);
  expect(reportsStayMs([{ withinMs: 500 * DAY_MS }, { hourly: 24 }])).toBe(500 * DAY_MS);
});

test("what is older goes in all its forms; the newest report, other sites' and other files never", () => {
  const names = [
    "test-restore-shop-20240101-070000.txt",
    "test-restore-shop-20240101-070000.json",
    "test-restore-shop-20240101-070000.html",
    "test-restore-shop-20250601-070000.html",
    "test-restore-shop-prod-20240101-070000.html",
    "test-restore-shop-20240101-070000.pdf",
    "notes.txt",
  ];
  const wish = { site: "shop", stayMs: 400 * DAY_MS, now: new Date("2026-01-01T00:00:00Z") };
  expect(expiredReports(names, wish)).toEqual(names.slice(0, 3));
  expect(expiredReports(names, { ...wish, now: new Date("2036-01-01T00:00:00Z") })).toEqual(
    names.slice(0, 3),
  );
  expect(expiredReports(names.slice(0, 3), wish)).toEqual([]);
  expect(expiredReports(names, { ...wish, stayMs: 800 * DAY_MS })).toEqual([]);
  expect(expiredReports([], wish)).toEqual([]);
});
