import { expect, test } from "vitest";
import { foreseeErasure } from "../../src/domain/erasure.js";
import type { KeptBackup } from "../../src/domain/retention.js";

const DAY_MS = 86_400_000;
const now = new Date("2026-11-20T03:00:00Z");
const ago = (days: number): Date => new Date(now.getTime() - days * DAY_MS);

const backup = (id: string, days: number, more: Partial<KeptBackup> = {}): KeptBackup => ({
  id,
  kind: "full",
  method: "physical",
  tenantId: null,
  createdAt: ago(days),
  endedAt: ago(days),
  needs: [],
  isGood: true,
  ...more,
});
const daysFromNow = (at: Date | null | undefined): number | null =>
  at ? Math.round((at.getTime() - now.getTime()) / DAY_MS) : null;

const foresee = (backups: KeptBackup[], more: Partial<Parameters<typeof foreseeErasure>[0]> = {}) => {
  const answer = foreseeErasure({
    policy: { withinMs: 10 * DAY_MS },
    backups,
    pins: new Map(),
    pitrWindowMs: 0,
    now,
    tenantId: "7",
    gone: null,
    lookedForEveryDays: 7,
    paused: () => null,
    isFailing: () => false,
    ...more,
  });
  return { ...answer, days: new Map([...answer.until].map(([id, at]) => [id, daysFromNow(at)])) };
};

test("a backup goes when its age says so, and what it builds on goes with it", () => {
  const { days } = foresee([backup("base", 9), backup("on top", 3, { needs: ["base"] })]);
  expect(days).toEqual(
    new Map([
      ["base", 8],
      ["on top", 8],
    ]),
  );
});

test("a base of the recovery window stays until the window has moved past the next one", () => {
  const { days, walUntil } = foresee([backup("base", 9)], { pitrWindowMs: 30 * DAY_MS });
  expect([days.get("base"), daysFromNow(walUntil)]).toEqual([30, 30]);
});

test("numbers of days and months are counted on", () => {
  const { days } = foresee([backup("old", 2)], { policy: { daily: 5 } });
  expect(days.get("old")).toBe(4);
  expect(foresee([backup("old", 20)], { policy: { monthly: 2 } }).days.get("old")).toBe(11);
});

test("what nothing ever removes has no end: pins, the newest backup of a tenant who is there, a storage without a policy", () => {
  const own = backup("own", 1, { kind: "tenant", method: "logical", tenantId: "7" });
  expect(foresee([own]).days.get("own")).toBeNull();
  expect(foresee([backup("b", 1)], { pins: new Map([["b", "evidence"]]) }).days.get("b")).toBeNull();
  const kept = foresee([backup("b", 1)], { policy: null });
  expect([kept.days.get("b"), kept.walUntil]).toEqual([null, null]);
  expect(kept.reasons.get("b")).toContain("no policy for this storage: everything is kept");
});

const own = (id: string, days: number, more: Partial<KeptBackup> = {}): KeptBackup =>
  backup(id, days, { kind: "tenant", method: "logical", tenantId: "7", ...more });
const goneSince = (days: number) => ({ since: ago(days), seen: [ago(days)] });

test("the last backup of a tenant who is gone goes thirty days later, or as the window says, and not before its policy ends", () => {
  const policy = { withinMs: 10 * DAY_MS };
  expect(foresee([own("own", 1)], { policy, gone: goneSince(0) }).days.get("own")).toBe(31);
  const window = { pitrWindowMs: 60 * DAY_MS };
  expect(foresee([own("own", 1)], { policy, gone: goneSince(0), ...window }).days.get("own")).toBe(61);
  const long = { withinMs: 90 * DAY_MS };
  expect(foresee([own("own", 1)], { policy: long, gone: goneSince(0) }).days.get("own")).toBe(90);
});

test("counts are of looks in vain, too: what would be kept as the last of many goes in its turn", () => {
  const { days } = foresee([own("older", 8), own("newer", 1)], {
    policy: { last: 6 },
    gone: { since: now, seen: [] },
  });
  // five looks, one a week, push the older one out, and the sixth the newer one
  expect(days).toEqual(
    new Map([
      ["older", 35],
      ["newer", 42],
    ]),
  );
});

test("what holds expiry up today is told as a reason, and taken for mended in what follows", () => {
  const question = { isFailing: () => true, policy: { withinMs: 3 * DAY_MS } };
  const failing = foresee([backup("old", 5), backup("new", 3)], question);
  expect(failing.reasons.get("old")).toContain(
    "newer backups of its kind failed: nothing more expires until one succeeds",
  );
  expect(failing.days.get("old")).toBe(0);
  const dumps = [backup("old", 50, { method: "logical" }), backup("new", 1, { method: "logical" })];
  const damaged = foresee(dumps, { paused: () => "the cluster has damaged pages" });
  expect(damaged.reasons.get("old")).toEqual(["the cluster has damaged pages"]);
  expect(damaged.days.get("old")).toBe(0);
});
