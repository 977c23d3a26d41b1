import { describe, expect, test } from "vitest";
import {
  exitOf,
  type Finding,
  finding,
  inOrder,
  judgeAge,
  judgeClock,
  judgeDeletion,
  judgeKeys,
  judgeMode,
  judgeRoom,
  judgeSchedule,
  spanText,
  worstOf,
} from "../../src/domain/diagnosis.js";
import { judgeServer, type ServerCheckup } from "../../src/domain/serverDiagnosis.js";

const good: ServerCheckup = {
  version: "16.4",
  major: 16,
  inRecovery: false,
  role: "backup",
  isSuperuser: false,
  mayReplicate: true,
  mayReadSettings: true,
  mayReadAll: true,
  bypassesRls: true,
  deniedFunctions: [],
  walLevel: "replica",
  senders: 10,
  slotsFree: 9,
  hasChecksums: true,
  ownSlot: { lagBytes: 16e6, isActive: false, status: "reserved" },
  otherSlots: [],
  archiver: null,
  walFilledPercent: 5,
  clockApartMs: 200,
};
const bad = (checkup: Partial<ServerCheckup>, wish = { archives: true, hasTenants: false }): string[] =>
  judgeServer({ ...good, ...checkup }, wish)
    .filter(({ status }) => status !== "ok")
    .map(({ name, status, message, hint }) => `${name} ${status}: ${message} | ${hint}`);

test("a server with everything in order has nothing to be said against it", () => {
  expect(bad({})).toEqual([]);
});

describe("each thing that is wrong with a server is named, with the command that puts it right", () => {
  test.each<[string, Partial<ServerCheckup>, RegExp]>([
    ["old", { major: 12, version: "12.9" }, /^version fail: PostgreSQL 12.9 is older than 13/],
    ["new", { major: 19, version: "19.0" }, /^version warn: PostgreSQL 19.0 is newer than 18/],
    [
      "replication",
      { mayReplicate: false },
      /^rights fail: the role backup may not replicate.*\| as a superuser: alter role backup replication$/,
    ],
    ["settings", { mayReadSettings: false }, /^rights fail: .*grant pg_monitor to backup$/],
    [
      "functions",
      { deniedFunctions: ["pg_backup_start(text,boolean)"] },
      /^rights fail: the role backup may not call pg_backup_start\(text,boolean\) \|.*grant execute on function pg_backup_start/,
    ],
    ["reading", { mayReadAll: false }, /^rights fail: .*grant pg_read_all_data to backup$/],
    ["rls", { bypassesRls: false }, /^rls warn: .*alter role backup bypassrls$/],
    [
      "minimal",
      { walLevel: "minimal" },
      /^wal fail: wal_level is minimal.*alter system set wal_level = replica/,
    ],
    ["senders", { senders: 0 }, /^wal fail: max_wal_senders is 0/],
    [
      "lost slot",
      { ownSlot: { lagBytes: 0, isActive: false, status: "lost" } },
      /^slots fail: our replication slot has lost WAL/,
    ],
    [
      "late slot",
      { ownSlot: { lagBytes: 7e9, isActive: false, status: "extended" } },
      /^slots warn: our replication slot holds 7.0 GB of WAL back.*\| jbackup backup wal stores it/,
    ],
    [
      "no slot",
      { ownSlot: null },
      /^slots warn: there is no replication slot of ours yet.*\| jbackup backup wal makes it$/,
    ],
    [
      "no room for one",
      { ownSlot: null, slotsFree: 0 },
      /^slots fail: every replication slot of the server is taken/,
    ],
    [
      "idle",
      { otherSlots: [{ name: "old", lagBytes: 5e9 }] },
      /^slots warn: .*old, which nobody uses, holds 5.0 GB.*pg_drop_replication_slot\('old'\)$/,
    ],
    [
      "archiver",
      {
        archiver: {
          lastFailed: "0001",
          lastFailedAt: "2026-02-01T00:00:00Z",
          lastArchivedAt: "2026-01-01T00:00:00Z",
        },
      },
      /^archiver fail: archive_command fails, last at 2026-02-01/,
    ],
    ["pg_wal", { walFilledPercent: 85 }, /^pg_wal fail: pg_wal has used 85 %/],
    ["checksums", { hasChecksums: false }, /^checksums warn: .*pg_checksums --enable/],
    [
      "clock",
      { clockApartMs: -400_000 },
      /^clock fail: the clock of the server is 6 minutes behind this host's/,
    ],
  ])("%s", (_what, checkup, told) => {
    const lines = bad(checkup);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(told);
  });

  test("what is missing in one place does not hide what is missing in another", () => {
    expect(
      bad(
        { mayReplicate: false, mayReadAll: false, bypassesRls: false },
        { archives: true, hasTenants: true },
      ),
    ).toEqual([
      expect.stringMatching(/^rights fail: .*may not replicate/),
      expect.stringMatching(/^rights fail: .*may not read every table/),
      expect.stringMatching(/^rls fail: .*tenant/),
    ]);
  });

  test("a failure of the archiver that a success made up for is history", () => {
    const archiver = {
      lastFailed: "1",
      lastFailedAt: "2026-01-01T00:00:00Z",
      lastArchivedAt: "2026-02-01T00:00:00Z",
    };
    expect(bad({ archiver })).toEqual([]);
  });
});

test("ages are judged by their limits, and what never was by what it means", () => {
  const age = {
    group: "proof",
    name: "full",
    what: "full backup",
    warnAfterMs: 10,
    failAfterMs: 20,
    hint: "do it",
  } as const;
  const status = (ageMs: number | null): string => judgeAge({ ...age, ageMs, never: "fail" }).status;
  expect([null, 10, 11, 20, 21].map(status)).toEqual(["fail", "ok", "warn", "warn", "fail"]);
  expect(judgeAge({ ...age, ageMs: 3 * 86_400_000, never: "ok" })).toMatchObject({
    message: "the last full backup was 3 days ago",
    hint: "do it",
  });
});

test("spans are told in the unit that says most", () => {
  expect([0, 60_000, 119 * 60_000, 120 * 60_000, 47.9 * 3_600_000, 48 * 3_600_000].map(spanText)).toEqual([
    "0 minutes",
    "1 minute",
    "119 minutes",
    "2 hours",
    "47 hours",
    "2 days",
  ]);
});

test("modes: what holds secrets is nobody else's to read, and nothing is everybody's to write", () => {
  const judged = (mode: number, holdsSecret: boolean) =>
    judgeMode({ path: "/f", what: "the key", mode, holdsSecret });
  expect(judged(0o600, true).wanted).toBeNull();
  expect(judged(0o640, true).wanted).toBeNull();
  expect(judged(0o644, false).wanted).toBeNull();
  expect(judged(0o644, true).wanted).toBe(0o640);
  expect(judged(0o666, false).wanted).toBe(0o644);
  expect(judged(0o777, true).wanted).toBe(0o750);
  expect(judged(0o644, true).finding).toMatchObject({
    status: "fail",
    message: "the key /f can be read by others (mode 0644)",
    hint: "chmod 0640 /f, or jbackup doctor --fix",
  });
});

test("room for the next backup, and for those after it", () => {
  const room = (freeBytes: number) => judgeRoom({ storage: "local", freeBytes, expectedBytes: 10e9 });
  expect([9e9, 15e9, 31e9].map((free) => room(free).status)).toEqual(["fail", "warn", "ok"]);
  expect(exitOf([room(1)])).toBe(16);
});

test("credentials that can delete are said, and those that nobody can delete with as well", () => {
  const facts = { storage: "r2", isLocal: false, mayDelete: true, hasCleanup: true };
  const status = (more: Partial<typeof facts>): string | undefined =>
    judgeDeletion({ ...facts, ...more })?.status;
  expect([status({}), status({ hasCleanup: false }), status({ mayDelete: false })]).toEqual([
    "warn",
    "warn",
    "ok",
  ]);
  expect(status({ mayDelete: false, hasCleanup: false })).toBe("warn");
  expect(status({ isLocal: true })).toBeUndefined();
});

test("keys: one is few, one that opens nothing is none, and a kit is asked for", () => {
  const facts = {
    recipients: ["a"],
    isGenerated: true,
    opens: true,
    label: "full-1",
    testedAgeMs: null,
    kitAgeMs: null,
    kitDrift: [],
  };
  expect(judgeKeys(facts).map(({ name, status }) => `${name} ${status}`)).toEqual([
    "recipients warn",
    "identity ok",
    "key-test warn",
    "kit warn",
  ]);
  const sound = judgeKeys({ ...facts, recipients: ["a", "b"], testedAgeMs: 1, kitAgeMs: 1 });
  expect(worstOf(sound)).toBe("ok");
  const old = judgeKeys({ ...facts, kitAgeMs: 3_600_000, kitDrift: ["a is", "b is"] });
  expect(old.find(({ name }) => name === "kit")).toMatchObject({
    status: "warn",
    message: "the recovery kit that was written 60 minutes ago is out of date: a is, and b is",
  });
  const wrong = judgeKeys({ ...facts, opens: false });
  expect([worstOf(wrong), exitOf(wrong)]).toEqual(["fail", 12]);
  expect(judgeKeys({ ...facts, opens: null }).find(({ name }) => name === "identity")).toMatchObject({
    status: "ok",
  });
});

test("a schedule is judged by what ran, and by who would run it", () => {
  const job = { job: "backup-full", command: "backup full", missedAt: null, ranAt: "2026-01-01T02:00:00Z" };
  const told = (
    jobs: (typeof job | { missedAt: string | null; ranAt: string | null; job: string; command: string })[],
    runners: string[],
  ) => judgeSchedule(jobs, runners).map(({ status, message, hint }) => `${status}: ${message} | ${hint}`);
  expect(told([], [])).toEqual([expect.stringMatching(/^warn: nothing is scheduled/)]);
  expect(told([job], ["systemd"])).toEqual(["ok: 1 jobs run as they are scheduled, by systemd | null"]);
  const missed = { ...job, missedAt: "2026-01-02T02:00:00Z" };
  expect(told([missed, job], [])).toEqual([
    "fail: backup-full should have run at 2026-01-02T02:00:00Z and did not; it last did at 2026-01-01T02:00:00Z | nothing on this host seems to run it: jbackup schedule install",
  ]);
  expect(told([{ ...job, ranAt: null }], [])).toEqual([
    expect.stringMatching(/^warn: 1 jobs are scheduled, and nothing/),
  ]);
});

test("clocks that differ by more than five minutes are a failure", () => {
  expect(judgeClock("storages", "storage r2", 299_000).status).toBe("ok");
  expect(judgeClock("storages", "storage r2", 3_600_000)).toMatchObject({
    status: "fail",
    message: expect.stringContaining("60 minutes ahead of this host's"),
  });
});

test("the exit code is that of the one reason for which everything fails, else 1", () => {
  const fail = (exit?: Finding["exit"]): Finding => ({
    ...finding("keys", "x", "fail", "m"),
    ...(exit ? { exit } : {}),
  });
  expect(exitOf([finding("keys", "x", "warn", "m")])).toBe(0);
  expect(exitOf([fail(16), fail(16)])).toBe(16);
  expect(exitOf([fail(16), fail()])).toBe(1);
  expect(exitOf([fail()])).toBe(1);
});

test("findings are told group by group, whichever came first", () => {
  const found = [
    finding("alerts", "a", "ok", ""),
    finding("server", "b", "ok", ""),
    finding("configuration", "c", "ok", ""),
  ];
  expect(inOrder(found).map(({ name }) => name)).toEqual(["c", "b", "a"]);
});
