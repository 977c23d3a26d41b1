import picocolors from "picocolors";
import { describe, expect, it } from "vitest";
import { statusScreen } from "../../src/cli/statusScreen.js";
import { widthOf } from "../../src/cli/table.js";
import type { JobStatus, SiteStatus, StorageStatus } from "../../src/engine/status.js";

const NOW = Date.parse("2026-11-26T01:40:00Z");
const HOUR_MS = 3_600_000;
const before = (hours: number): string => new Date(NOW - hours * HOUR_MS).toISOString();

const job = (name: string, change: Partial<JobStatus> = {}): JobStatus => ({
  name,
  command: `jbackup ${name}`,
  schedule: "0 2 * * *",
  lastGoodAt: before(5),
  lastRun: { at: before(5), finishedAt: before(5), status: "succeeded", error: null, host: "db1" },
  nextAt: before(-3),
  missedAt: null,
  ...change,
});

const storage = (name: string, change: Partial<StorageStatus> = {}): StorageStatus => ({
  name,
  kind: "local",
  reachable: true,
  error: null,
  copies: { stored: 31, missing: 0, damaged: 0 },
  lastFullAt: before(5),
  hasNewestFull: true,
  verifiedAt: before(26),
  testRestoredAt: null,
  usedBytes: 12.3e9,
  capacityBytes: 1e11,
  freeBytes: 6.6e10,
  filledPercent: 34,
  growthBytesPerDay: 2e8,
  daysUntilFull: 330,
  history: Array.from({ length: 30 }, (_, day) => ({ day: `2026-11-${day}`, bytes: day * 1e9 })),
  ...change,
});

const status: SiteStatus = {
  site: "a-site-with-quite-a-long-name-in-production",
  host: "db1",
  at: new Date(NOW).toISOString(),
  health: {
    score: 53,
    state: "critical",
    reasons: Array.from({ length: 9 }, (_, nth) => ({
      code: `x${nth}`,
      points: 5,
      severity: "critical" as const,
      message: `${nth}: storage b2 cannot be read: connect ETIMEDOUT 206.190.208.254:443 while asking for the marker`,
      command: null,
    })),
  },
  next: { command: "jbackup verify --all --heal", why: "x" },
  source: "catalog",
  catalog: { location: "sqlite:x", error: null, hint: null },
  postgres: { error: null },
  jobs: [
    job("full"),
    job("wal", { lastGoodAt: null, lastRun: null }),
    job("verify", { missedAt: before(20) }),
  ],
  lastFull: null,
  storages: [
    storage("local"),
    storage("r2", { copies: { stored: 1_231, missing: 3, damaged: 2 }, filledPercent: null }),
    storage("a-storage-with-quite-a-long-name", {
      reachable: null,
      error: "environment variable B2_ID is not set",
    }),
  ],
  window: {
    from: { at: before(720), lsn: "0/1" },
    to: { at: before(0.1), lsn: "0/9" },
    bases: [0, 10, 20].map((day) => ({
      id: String(day),
      label: String(day),
      timeline: 1,
      from: { at: before(720 - day * 24), lsn: "0/1" },
      to: { at: before(700 - day * 24), lsn: "0/2" },
      hole: day === 0 ? "timeline 1 from 0/5000000 to 0/7000000" : null,
    })),
    holes: [],
    lost: [{ from: before(400), to: before(380) }],
    rival: null,
    source: "storages",
  },
  rpo: { nowMs: 120_000, objectiveMs: 300_000, upTo: before(0.1), source: "wal", unstoredBytes: 1 },
  rto: { lastMs: 720_000, objectiveMs: 3_600_000, at: before(480), source: "drill" },
  testRestoredAt: null,
  alerts: [],
};

const screenAt = (columns: number, isUnicode = true): string =>
  statusScreen(status, { paint: picocolors.createColors(false), columns, isUnicode });

describe("the screen of a site in trouble", () => {
  it.each([60, 80, 100, 120])("keeps within %i columns, and within a terminal of 40 lines", (columns) => {
    const lines = screenAt(columns).split("\n");
    for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(columns);
    expect(lines.length).toBeLessThanOrEqual(40);
  });

  it("says first how it is, why, and what to do", () => {
    const [head, first, ...rest] = screenAt(80).split("\n");
    expect(head).toMatch(/^a-site-with-quite-a-long-name-in-production {2}53 of 100, critical/);
    expect(first).toMatch(/^ {3}-5 {2}0: storage b2 cannot be read/);
    expect(rest).toContain("       and 3 more: jbackup status --json shows all");
    expect(rest).toContain("Next: jbackup verify --all --heal");
  });

  it("draws the window with its gaps, and names what is missing", () => {
    const text = screenAt(80);
    expect(/\[(.*)\]/.exec(text)?.[1]).toMatch(/^\|=+ +\|=+ +\|=+$/);
    expect(text).toContain("missing: timeline 1 from 0/5000000 to 0/7000000");
    expect(text).toContain("RPO   2 min would be lost now (objective 5 min)");
    expect(text).toContain("RTO   12 min took the last drill, 2 w ago (objective 1 h)");
  });

  it("tells which storage is not asked from here, and counts what is wrong", () => {
    const text = screenAt(140);
    expect(text).toContain("1,231 (3 missing, 2 damaged)");
    expect(text).toContain("missed 20 h ago");
    expect(text).toMatch(/is not asked from here: environment variable B2_ID/);
    expect(text).toContain("▁▂▃▄▅▆▇█");
    expect(screenAt(140, false)).not.toMatch(/[^\x20-\x7e\n…]/);
  });
});
