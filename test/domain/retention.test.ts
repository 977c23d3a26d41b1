import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  hasStopped,
  type KeptBackup,
  oldestWindowBase,
  planRetention,
  type RetentionPolicy,
} from "../../src/domain/retention.js";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = new Date("2026-11-25T12:00:00Z");

interface Made {
  hoursAgo: number;
  kind: "full" | "tenant" | "config";
  method: "physical" | "logical";
  tenant: number;
  /** Counted back among the physical ones made before it; 0 stands alone. */
  buildsOn: number;
  isGood: boolean;
}

const made = fc.record<Made>({
  hoursAgo: fc.nat({ max: 24 * 120 }),
  kind: fc.constantFrom("full", "full", "full", "tenant", "config"),
  method: fc.constantFrom("physical", "physical", "logical"),
  tenant: fc.nat({ max: 3 }),
  buildsOn: fc.nat({ max: 3 }),
  isGood: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
});
const count = fc.option(fc.nat({ max: 6 }), { nil: undefined });
const policies = fc.record<RetentionPolicy>({
  withinMs: fc.option(fc.nat({ max: 60 * DAY }), { nil: undefined }),
  last: count,
  hourly: count,
  daily: count,
  weekly: count,
  monthly: count,
  yearly: count,
});

/** A history as backups make it: an increment refers to everything that its parent refers to, and to the parent. */
function historyOf(history: Made[]): KeptBackup[] {
  const inOrder = history.toSorted((a, b) => b.hoursAgo - a.hoursAgo);
  const backups: KeptBackup[] = [];
  for (const [number, { hoursAgo, kind, method, tenant, buildsOn, isGood }] of inOrder.entries()) {
    const at = new Date(NOW.getTime() - hoursAgo * HOUR);
    const isPhysical = kind === "full" && method === "physical";
    const older = backups.filter((one) => one.isGood && one.kind === "full" && one.method === "physical");
    const parent = isPhysical && buildsOn > 0 ? older.at(-buildsOn) : undefined;
    backups.push({
      id: String(number).padStart(4, "0"),
      kind,
      method: kind === "full" ? method : null,
      tenantId: kind === "tenant" ? `t${tenant}` : null,
      createdAt: at,
      endedAt: at,
      needs: parent ? [...parent.needs, parent.id] : [],
      // what builds on something damaged is damaged
      isGood: isGood && (parent?.isGood ?? true),
    });
  }
  return backups;
}

const answer = (
  backups: KeptBackup[],
  policy: RetentionPolicy | null,
  more: Partial<Parameters<typeof planRetention>[0]> = {},
) =>
  planRetention({
    policy,
    backups,
    pins: new Map(),
    pitrWindowMs: 30 * DAY,
    now: NOW,
    paused: () => null,
    ...more,
  });

/** After any cleanup, cleaned again with time going on: every promise still holds. */
describe("retention, whatever happened before", () => {
  const histories = fc.array(made, { maxLength: 40 }).map(historyOf);

  it("keeps or removes each backup, never both, and gives reasons for what it keeps", () =>
    fc.assert(
      fc.property(histories, policies, (backups, policy) => {
        const { keep, remove } = answer(backups, policy);
        expect([...keep.keys(), ...remove].sort()).toEqual(backups.map(({ id }) => id).sort());
        for (const reasons of keep.values()) expect(reasons.length).toBeGreaterThan(0);
      }),
    ));

  it("never breaks a chain", () =>
    fc.assert(
      fc.property(histories, policies, (backups, policy) => {
        const { keep } = answer(backups, policy);
        for (const { id, needs } of backups)
          if (keep.has(id)) for (const need of needs) expect(keep.has(need)).toBe(true);
      }),
    ));

  it("never removes the newest good one of any kind, method or tenant, nor what is newer and may be mended", () =>
    fc.assert(
      fc.property(histories, policies, (backups, policy) => {
        const { keep } = answer(backups, policy);
        for (const one of backups) {
          // counted among the good ones only: a damaged one never stands in for a good one
          const isNewest = !backups.some(
            (other) =>
              other.isGood &&
              other.kind === one.kind &&
              other.method === one.method &&
              other.tenantId === one.tenantId &&
              (other.createdAt > one.createdAt ||
                (other.createdAt.getTime() === one.createdAt.getTime() && other.id > one.id)),
          );
          if (isNewest) expect(keep.has(one.id)).toBe(true);
        }
      }),
    ));

  it("keeps a base for every moment of the window that had one", () =>
    fc.assert(
      fc.property(
        histories,
        policies,
        fc.nat({ max: 60 }),
        fc.nat({ max: 60 * 24 }),
        (backups, policy, days, hoursAgo) => {
          const windowMs = days * DAY;
          const moment = NOW.getTime() - Math.min(hoursAgo * HOUR, windowMs);
          const isBase = ({ kind, method, endedAt, isGood }: KeptBackup) =>
            kind === "full" && method === "physical" && isGood && endedAt.getTime() <= moment;
          const { keep } = answer(backups, policy, { pitrWindowMs: windowMs });
          const before = backups.filter(isBase).map(({ endedAt }) => endedAt.getTime());
          const after = backups
            .filter((one) => keep.has(one.id) && isBase(one))
            .map(({ endedAt }) => endedAt.getTime());
          // the very base that is nearest to the moment, so that as little as possible is to be replayed
          expect(Math.max(...after)).toBe(Math.max(...before));
          const oldest = oldestWindowBase(backups, windowMs, NOW);
          if (oldest !== null && before.length > 0)
            expect(backups.find(({ id }) => id === oldest)?.endedAt.getTime()).toBeLessThanOrEqual(
              Math.max(...before),
            );
        },
      ),
    ));

  it("leaves alone what is pinned or paused, and everything where there is no policy", () =>
    fc.assert(
      fc.property(histories, policies, fc.nat(), (backups, policy, seed) => {
        const pinned = backups.filter((_, at) => (at * 7 + seed) % 5 === 0);
        const { keep } = answer(backups, policy, {
          pins: new Map(pinned.map(({ id }) => [id, "audit"])),
          paused: ({ kind }) => (kind === "tenant" ? "failing" : null),
        });
        for (const { id } of pinned) expect(keep.get(id)).toContain("pinned: audit");
        for (const { id, kind } of backups) if (kind === "tenant") expect(keep.has(id)).toBe(true);
        expect(answer(backups, null).remove).toEqual([]);
      }),
    ));

  it("loses nothing to age while newer runs fail, however long that lasts", () =>
    fc.assert(
      fc.property(histories, policies, fc.nat({ max: 400 }), (backups, policy, days) => {
        const isFailing = (): boolean => true;
        const ask = (now: Date) => [...answer(backups, policy, { now, isFailing }).keep.keys()].sort();
        expect(ask(new Date(NOW.getTime() + days * DAY))).toEqual(ask(NOW));
      }),
    ));

  it("cleaned day after day promises the same as cleaned once", () =>
    fc.assert(
      fc.property(
        histories,
        policies,
        fc.array(fc.nat({ max: 72 }), { maxLength: 5 }),
        (backups, policy, hours) => {
          let left = backups;
          let nowMs = NOW.getTime();
          for (const passed of hours) {
            nowMs += passed * HOUR;
            const now = new Date(nowMs);
            const { keep } = planRetention({
              policy,
              backups: left,
              pins: new Map(),
              pitrWindowMs: 7 * DAY,
              now,
              paused: () => null,
            });
            left = left.filter(({ id }) => keep.has(id));
            for (const { needs } of left)
              for (const need of needs) expect(left.some(({ id }) => id === need)).toBe(true);
            // nothing that a fresh look at everything would keep has been lost on the way, as far as it was not expired before
            const at = now.getTime() - 7 * DAY;
            const bases = (some: KeptBackup[]) =>
              some.filter(
                (one) =>
                  one.isGood &&
                  one.kind === "full" &&
                  one.method === "physical" &&
                  one.endedAt.getTime() <= at,
              );
            if (bases(backups).length > 0) expect(bases(left).length).toBeGreaterThan(0);
          }
        },
      ),
    ));
});

describe("backups that have stopped", () => {
  const nightly = (nights: number[]) => nights.map((ago) => new Date(NOW.getTime() - ago * DAY));
  it.each([
    ["nightly ones, the last one tonight", [0, 1, 2, 3], false],
    ["nightly ones, two missed", [2.9, 4, 5, 6], false],
    ["nightly ones, none for four days", [4, 5, 6, 7], true],
    ["weekly ones, two missed", [15.5, 22, 29], true],
    ["weekly ones, one missed", [13, 20, 27], false],
    ["a single one of last week", [7], false],
    ["a single one of last month", [31], true],
    ["none at all", [], false],
  ])("%s", (_what, ago, isStopped) => {
    expect(hasStopped(nightly(ago), NOW)).toBe(isStopped);
  });
});

describe("retention by example", () => {
  const nightly = (nights: number): KeptBackup[] =>
    Array.from({ length: nights }, (_, night) => {
      const at = new Date(NOW.getTime() - night * DAY);
      return {
        id: `n${String(night).padStart(3, "0")}`,
        kind: "full",
        method: "logical",
        tenantId: null,
        createdAt: at,
        endedAt: at,
        needs: [],
        isGood: true,
      };
    });

  it("keeps the bases of a timeline that was left until the newest one has its own for the whole window", () => {
    const base = (id: string, nightsAgo: number, timeline: number): KeptBackup => {
      const at = new Date(NOW.getTime() - nightsAgo * DAY);
      const place = { createdAt: at, endedAt: at, timeline };
      return { id, kind: "full", method: "physical", tenantId: null, needs: [], isGood: true, ...place };
    };
    const kept = (backups: KeptBackup[], newestTimeline?: number): string[] => {
      const rules = { pins: new Map(), pitrWindowMs: DAY, paused: () => null, policy: { last: 1 } };
      const question = { ...rules, backups, now: NOW, ...(newestTimeline ? { newestTimeline } : {}) };
      const { keep } = planRetention(question);
      expect(oldestWindowBase(backups, DAY, NOW, newestTimeline)).toBe([...keep.keys()].sort()[0]);
      return [...keep.keys()].sort();
    };
    const left = [base("a", 5, 1), base("b", 4, 1)];
    expect(kept(left)).toEqual(["b"]);
    // somebody went back to a moment before b, and only WAL tells of it yet
    expect(kept(left, 2)).toEqual(["a", "b"]);
    expect(kept([...left, base("c", 0.5, 2)], 2)).toEqual(["a", "b", "c"]);
    expect(kept([...left, base("c", 2, 2)], 2)).toEqual(["c"]);
  });

  it("30 daily, 12 weekly, 12 monthly of 400 nights", () => {
    const { keep } = answer(nightly(400), { daily: 30, weekly: 12, monthly: 12 });
    const daily = [...keep.values()].filter((reasons) => reasons.some((one) => one.startsWith("daily")));
    const weekly = [...keep.values()].filter((reasons) => reasons.some((one) => one.startsWith("weekly")));
    const monthly = [...keep.values()].filter((reasons) => reasons.some((one) => one.startsWith("monthly")));
    expect([daily.length, weekly.length, monthly.length]).toEqual([30, 12, 12]);
    expect(keep.get("n000")).toEqual([
      "daily, for 2026-11-25",
      "weekly, for 2026-11-23",
      "monthly, for 2026-11",
      "the newest good one of its kind",
    ]);
    expect(keep.size).toBeLessThan(54);
  });

  it("within 3 days of 10 nights keeps today's and the three before", () => {
    expect([...answer(nightly(10), { withinMs: 3 * DAY }).keep.keys()]).toEqual([
      "n000",
      "n001",
      "n002",
      "n003",
    ]);
  });
});

it("lets no backup that was made for a restore take the place of the tenant's own", () => {
  const at = (hoursAgo: number): Date => new Date(NOW.getTime() - hoursAgo * HOUR);
  const own = (id: string, hoursAgo: number, isAside = false): KeptBackup => ({
    id,
    kind: "tenant",
    method: "logical",
    tenantId: "t1",
    createdAt: at(hoursAgo),
    endedAt: at(hoursAgo),
    needs: [],
    isGood: true,
    isAside,
  });
  const ask = (policy: RetentionPolicy) =>
    planRetention({
      policy,
      backups: [own("good", 5), own("before a restore", 3, true), own("older", 60)],
      pins: new Map(),
      pitrWindowMs: 0,
      now: NOW,
      paused: () => null,
    });
  expect(ask({ last: 1 }).keep.get("good")).toEqual(["one of the last 1", "the newest good one of its kind"]);
  expect(ask({ last: 1 }).keep.get("before a restore")).toEqual(["one of the last 1"]);
  expect(ask({ withinMs: HOUR }).remove.sort()).toEqual(["before a restore", "older"]);
});

describe("a tenant who is gone", () => {
  const histories = fc.array(made, { maxLength: 40 }).map(historyOf);
  const looks = fc.uniqueArray(fc.nat({ max: 24 * 200 }), { minLength: 1, maxLength: 30 });
  const goneAt = (hours: number[]) => {
    const seen = hours.map((hoursAgo) => new Date(NOW.getTime() - hoursAgo * HOUR));
    const since = new Date(Math.min(...seen.map((at) => at.getTime())));
    return { gone: new Map([["t1", { since, seen }]]), since };
  };
  const isTheirs = ({ tenantId }: KeptBackup): boolean => tenantId === "t1";

  it("changes nothing for anybody else, and never keeps more of them than if they were there", () =>
    fc.assert(
      fc.property(histories, policies, looks, (backups, policy, hours) => {
        const there = answer(backups, policy).keep;
        const { keep } = answer(backups, policy, goneAt(hours));
        const others = (kept: Map<string, string[]>) =>
          backups.filter((one) => !isTheirs(one)).map(({ id }) => [id, kept.get(id)]);
        expect(others(keep)).toEqual(others(there));
        for (const one of backups) if (keep.has(one.id)) expect(there.has(one.id)).toBe(true);
      }),
    ));

  it("loses the last good backup only a month after that was seen, or when the window has passed, and never what is pinned", () =>
    fc.assert(
      fc.property(histories, policies, looks, fc.nat({ max: 90 }), (backups, policy, hours, window) => {
        const { gone, since } = goneAt(hours);
        const pitrWindowMs = window * DAY;
        const theirs = backups.filter((one) => isTheirs(one) && one.isGood);
        const [newest] = theirs.toSorted(
          (a, b) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1),
        );
        if (newest === undefined) return;
        const isYoung = NOW.getTime() - since.getTime() <= Math.max(30 * DAY, pitrWindowMs);
        if (isYoung) expect(answer(backups, policy, { gone, pitrWindowMs }).keep.has(newest.id)).toBe(true);
        const pins = new Map([[newest.id, "evidence"]]);
        expect(answer(backups, policy, { gone, pitrWindowMs, pins }).keep.has(newest.id)).toBe(true);
      }),
    ));

  it("has nothing left at the end of any policy that has one", () =>
    fc.assert(
      fc.property(histories, policies, (backups, policy) => {
        const weeks = Array.from({ length: 60 * 53 }, (_, week) => new Date(NOW.getTime() + week * 7 * DAY));
        const [now] = weeks.slice(-1) as [Date];
        const gone = new Map([["t1", { since: NOW, seen: weeks }]]);
        const { keep } = answer(backups, policy, { gone, now });
        expect(backups.filter((one) => isTheirs(one) && keep.has(one.id))).toEqual([]);
      }),
      { numRuns: 20 },
    ));

  it("keeps everything where the storage has no policy, and a backup made for a restore no longer than the rest", () => {
    const at = new Date(NOW.getTime() - 300 * DAY);
    const theirs = (id: string, isAside: boolean): KeptBackup => ({
      id,
      kind: "tenant",
      method: "logical",
      tenantId: "t1",
      createdAt: at,
      endedAt: at,
      needs: [],
      isGood: true,
      isAside,
    });
    const { gone } = goneAt([24 * 100, 1]);
    const backups = [theirs("before a restore", true)];
    expect(answer(backups, null, { gone }).remove).toEqual([]);
    expect(answer(backups, { withinMs: DAY }).remove).toEqual([]);
    expect(answer(backups, { withinMs: DAY }, { gone }).remove).toEqual(["before a restore"]);
  });
});
