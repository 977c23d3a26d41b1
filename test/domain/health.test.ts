import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type HealthFacts, healthOf, nextStep } from "../../src/domain/health.js";

const DAY_MS = 86_400_000;

const good: HealthFacts = {
  catalogError: null,
  catalogRemedy: "jbackup catalog migrate",
  postgresError: null,
  jobs: [
    { name: "full", lastFailed: null, missedAt: null, command: "jbackup backup full" },
    { name: "wal", lastFailed: null, missedAt: null, command: "jbackup backup wal" },
    { name: "verify", lastFailed: null, missedAt: null, command: "jbackup verify --all" },
  ],
  fullAgeMs: 3_600_000,
  minCopies: 2,
  storages: [
    {
      name: "local",
      isLocal: true,
      error: null,
      hasNewestFull: true,
      stored: 5,
      missing: 0,
      damaged: 0,
      verifiedAgeMs: DAY_MS,
      fullness: "fine",
    },
    {
      name: "r2",
      isLocal: false,
      error: null,
      hasNewestFull: true,
      stored: 5,
      missing: 0,
      damaged: 0,
      verifiedAgeMs: DAY_MS,
      fullness: "fine",
    },
  ],
  rpoMs: 60_000,
  rpoObjectiveMs: 300_000,
  rtoMs: 600_000,
  rtoObjectiveMs: 3_600_000,
  hole: null,
  lost: [],
  rival: null,
  leftFor: null,
  isRecordKnown: true,
  testRestoreAgeMs: 10 * DAY_MS,
  alerts: [],
};

type Change = (facts: HealthFacts) => HealthFacts;
const storage =
  (at: number, change: Partial<HealthFacts["storages"][number]>): Change =>
  (facts) => ({
    ...facts,
    storages: facts.storages.map((one, nth) => (nth === at ? { ...one, ...change } : one)),
  });
const job =
  (at: number, change: Partial<HealthFacts["jobs"][number]>): Change =>
  (facts) => ({ ...facts, jobs: facts.jobs.map((one, nth) => (nth === at ? { ...one, ...change } : one)) });
const set =
  (change: Partial<HealthFacts>): Change =>
  (facts) => ({ ...facts, ...change });
const alert =
  (one: HealthFacts["alerts"][number]): Change =>
  (facts) => ({ ...facts, alerts: [...facts.alerts, one] });

const TROUBLES: [what: string, change: Change, state: string, message: RegExp, command: string][] = [
  ["no full backup", set({ fullAgeMs: null }), "critical", /no usable full backup/, "jbackup backup full"],
  [
    "a full run that failed",
    job(0, { lastFailed: "disk full" }),
    "critical",
    /the last full run failed: disk full/,
    "jbackup backup full",
  ],
  [
    "a verification that failed",
    job(2, { lastFailed: "no key" }),
    "warning",
    /the last verify run failed: no key/,
    "jbackup verify --all",
  ],
  [
    "WAL that was missed",
    job(1, { missedAt: "2026-11-20T02:00:00.000Z" }),
    "critical",
    /wal should have run at 2026-11-20T02:00:00.000Z and did not/,
    "jbackup backup wal",
  ],
  [
    "too few copies",
    storage(1, { hasNewestFull: false }),
    "critical",
    /newest full backup is in 1 of the 2 storages/,
    "jbackup verify --all --heal",
  ],
  [
    "a missing copy",
    storage(1, { missing: 1 }),
    "warning",
    /1 copy is missing in r2/,
    "jbackup verify --all --heal",
  ],
  [
    "damaged copies",
    storage(0, { damaged: 2 }),
    "critical",
    /2 copies are damaged in local/,
    "jbackup verify --all --heal",
  ],
  [
    "a storage away",
    storage(1, { error: "connect ECONNREFUSED" }),
    "warning",
    /r2 cannot be read: connect ECONNREFUSED/,
    "jbackup storages check",
  ],
  [
    "a storage that fills",
    storage(0, { fullness: "filling" }),
    "warning",
    /local is filling up/,
    "jbackup cleanup --dry-run",
  ],
  [
    "a storage nearly full",
    storage(0, { fullness: "nearly_full" }),
    "critical",
    /local is nearly full/,
    "jbackup cleanup --dry-run",
  ],
  [
    "nothing verified for long",
    storage(0, { verifiedAgeMs: 40 * DAY_MS }),
    "warning",
    /nothing in local was verified for 40 days/,
    "jbackup verify --all",
  ],
  [
    "copies that were never verified",
    storage(1, { verifiedAgeMs: null }),
    "ok",
    /nothing in r2 was ever verified/,
    "jbackup verify --all",
  ],
  [
    "no restore ever tested",
    set({ testRestoreAgeMs: null }),
    "ok",
    /no restore was ever tested/,
    "jbackup verify --level restore",
  ],
  [
    "an RPO just missed",
    set({ rpoMs: 400_000 }),
    "ok",
    /the last 7 min would be lost now/,
    "jbackup backup wal",
  ],
  [
    "an RPO missed by far",
    set({ rpoMs: 7_200_000 }),
    "critical",
    /the last 2 h would be lost now; the objective is 5 min/,
    "jbackup backup wal",
  ],
  ["a slow recovery", set({ rtoMs: 7_200_000 }), "warning", /the last recovery took 2 h/, "jbackup dr list"],
  [
    "a hole behind the newest base",
    set({ hole: "timeline 1 from 0/5000000 to 0/6000000" }),
    "critical",
    /WAL is missing behind the newest full backup \(timeline 1 from/,
    "jbackup backup full",
  ],
  [
    "two servers that write",
    set({ rival: "timeline 1 was still written" }),
    "critical",
    /timeline 1/,
    "jbackup wal status",
  ],
  [
    "a base of a timeline that was left",
    set({ leftFor: 2 }),
    "warning",
    /goes on on timeline 2/,
    "jbackup backup full",
  ],
  ["no catalog", set({ catalogError: "it is gone" }), "warning", /it is gone/, "jbackup catalog migrate"],
  [
    "no server",
    set({ postgresError: "refused" }),
    "warning",
    /PostgreSQL cannot be asked/,
    "jbackup wal status",
  ],
  [
    "a critical alert",
    alert({ type: "SECURITY", severity: "critical", message: "forged" }),
    "critical",
    /forged/,
    "jbackup alerts",
  ],
];

describe("the health of a site", () => {
  it("is 100 where nothing is wrong", () => {
    expect(healthOf(good)).toEqual({ score: 100, state: "ok", reasons: [] });
    expect(nextStep(healthOf(good))).toBeNull();
  });

  it.each(TROUBLES)("suffers from %s, says so, and what to do", (_, change, state, message, command) => {
    const health = healthOf(change(good));
    expect(health.state).toBe(state);
    expect(health.score).toBeLessThan(100);
    expect(health.reasons[0]?.message).toMatch(message);
    expect(nextStep(health)?.command).toBe(command);
  });

  it("does not count an alert again for what it sees by itself, but for what the alert adds", () => {
    const failed = job(0, { lastFailed: "x" })(good);
    const told = alert({ type: "BACKUP_FAILURE", severity: "critical", message: "failed" })(failed);
    expect(healthOf(told)).toEqual(healthOf(failed));
    const away = storage(1, { error: "x" })(good);
    const denied = alert({ type: "COPY_MISSING", severity: "critical", message: "denied" })(away);
    expect(healthOf(denied)).toMatchObject({ score: 80, state: "critical" });
  });

  it("does not hold against a site what is not known", () => {
    const unknown = { fullAgeMs: null, rpoMs: null, rtoMs: null, isRecordKnown: false, catalogError: "down" };
    const health = healthOf({ ...good, ...unknown, jobs: [], testRestoreAgeMs: null });
    expect(health.reasons.map(({ code }) => code)).toEqual(["catalog"]);
  });

  const anyTroubles = fc.shuffledSubarray(TROUBLES.map(([, change]) => change));
  const apply = (changes: Change[]): HealthFacts => changes.reduce((facts, change) => change(facts), good);

  it("is from 0 to 100, the sum of its reasons, worst first", () =>
    fc.assert(
      fc.property(anyTroubles, (changes) => {
        const { score, reasons, state } = healthOf(apply(changes));
        const lost = reasons.reduce((sum, { points }) => sum + points, 0);
        expect(score).toBe(Math.max(0, 100 - lost));
        expect(reasons.every(({ points }) => points > 0)).toBe(true);
        const ranks = reasons.map(({ severity }) => ["critical", "warning", "info"].indexOf(severity));
        expect(ranks).toEqual([...ranks].sort());
        expect(state).toBe((["critical", "warning"] as const)[ranks[0] ?? 2] ?? "ok");
      }),
    ));

  /** They only ever add a trouble; others, such as a higher RPO, replace each other. */
  const ADDING = TROUBLES.filter(
    ([what]) => !/RPO|storage that fills|verified|catalog|no full/.test(what),
  ).map(([, change]) => change);

  it("never gets better by another trouble", () =>
    fc.assert(
      fc.property(fc.shuffledSubarray(ADDING), fc.constantFrom(...ADDING), (changes, more) => {
        const before = healthOf(apply(changes));
        const after = healthOf(apply([...changes, more]));
        expect(after.score).toBeLessThanOrEqual(before.score);
        expect(["ok", "warning", "critical"].indexOf(after.state)).toBeGreaterThanOrEqual(
          ["ok", "warning", "critical"].indexOf(before.state),
        );
      }),
    ));
});
