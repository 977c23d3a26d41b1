import { execFileSync } from "node:child_process";
import {
  chmod,
  chown,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { environment, startPostgres, type TestPostgres } from "../support/postgres.js";
import { serveRestored } from "../support/restored.js";
import { ownTemporary } from "../support/runbooks.js";
import { makeSite, type TestSite } from "../support/site.js";

/** A row, and the server's clock before it was committed and after. */
interface Written {
  id: number;
  before: string;
  after: string;
}

let server: TestPostgres;
let site: TestSite;
let folder: string;
const written: Written[] = [];
let restores = 0;
/** Behind the first sixty rows. */
let lsnOfSixty: string;

/** Rows as fast as they go, each with the moments between which it was committed. */
async function write(rows: number): Promise<void> {
  const client = new pg.Client({ connectionString: server.url("shop") });
  await client.connect();
  const clock = async (): Promise<string> =>
    (
      await client.query(
        "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as now",
      )
    ).rows[0].now;
  try {
    for (let nth = 0; nth < rows; nth++) {
      const before = await clock();
      const id = Number((await client.query("insert into ticks default values returning id")).rows[0].id);
      const after = await clock();
      written.push({ id, before, after });
      await delay(5);
    }
  } finally {
    await client.end();
  }
}

async function idsAt(directory: string): Promise<number[]> {
  const restored = await serveRestored(directory, server.binDirectory);
  try {
    const rows = await query(restored.url("shop"), "select id::text as id from ticks order by ticks.id");
    return rows.map(({ id }) => Number(id));
  } finally {
    await restored.stop();
  }
}

const pitr = (to: string, directory: string, ...more: string[]): string[] => [
  ...["restore", "--mode", "pitr", "--to", to, "--into-dir", directory, "--reason", "test", ...more],
];

/** All that was committed before the moment, nothing that was committed after it. */
async function expectExact(to: string, ...more: string[]): Promise<void> {
  const directory = join(folder, `at-${++restores}`);
  const done = await site.json(pitr(to, directory, ...more));
  expect(done).toMatchObject({ mode: "pitr", status: "completed", target: directory });
  const ids = await idsAt(directory);
  const must = written.filter(({ after }) => after <= to).map(({ id }) => id);
  const mustNot = written.filter(({ before }) => before > to).map(({ id }) => id);
  expect(ids).toEqual(expect.arrayContaining(must));
  expect(ids.filter((id) => mustNot.includes(id))).toEqual([]);
  await rm(directory, { recursive: true });
}

/** A moment in the middle of what was written, and none at which a row was committed. */
const momentBetween = (from: number, to: number): string => {
  const nth = Math.floor(from + (to - from) * Math.random());
  return (written[nth] as Written).after;
};

const refusal = async (args: string[]): Promise<{ code: number | null; error: Record<string, string> }> => {
  const ran = await site.run(...args, "--json");
  return { code: ran.code, error: JSON.parse(ran.stdout).error };
};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-pitr-"));
  await chmod(folder, 0o755);
  server = await startPostgres({ settings: { wal_level: "replica", full_page_writes: "on" } });
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table ticks (id serial primary key, at timestamptz default clock_timestamp())",
    "create table prices as select g as id, g * 3 as price from generate_series(1, 2000) g; alter table prices add primary key (id)",
  );
  site = await makeSite({
    url: server.url("shop"),
    storages: (place) => [
      `- {name: one, kind: local, path: ${join(place, "one")}}`,
      `- {name: two, kind: local, path: ${join(place, "two")}}`,
    ],
  });
  ownTemporary(site, folder);
  await site.json(["backup", "wal"]);
  await site.json(["backup", "full"]);
  await write(60);
  const [sixty] = await query(server.url("shop"), "select pg_current_wal_insert_lsn()::text as lsn");
  lsnOfSixty = sixty?.lsn ?? "";
  await site.json(["backup", "wal"]);
  await write(60);
  await query(server.url("shop"), "select pg_create_restore_point('before the upgrade')");
  await write(30);
  await site.json(["backup", "wal"]);
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

describe("a moment in time", () => {
  test("brings all that was committed before, and nothing after, also from the storages that are left", async () => {
    await expectExact(momentBetween(5, 55));
    await rename(join(site.folder, "one"), join(site.folder, "one-gone"));
    try {
      await expectExact(momentBetween(65, 115));
    } finally {
      await rm(join(site.folder, "one"), { recursive: true, force: true });
      await rename(join(site.folder, "one-gone"), join(site.folder, "one"));
    }
  });

  test.each([
    ["an LSN", () => lsnOfSixty, 60],
    ["a restore point", () => "before the upgrade", 120],
    ["the end", () => "latest", 150],
  ])("can be %s", async (_what, to, rows) => {
    const directory = join(folder, `point-${rows}`);
    const [now] = await query(server.url("shop"), "select pg_current_wal_lsn()::text as lsn");
    const done = await site.json(pitr(to(), directory));
    expect(done.metadata.replayedLsn <= (now?.lsn ?? "")).toBe(true);
    expect(await idsAt(directory)).toEqual(written.slice(0, rows).map(({ id }) => id));
    await rm(directory, { recursive: true });
  });

  test("leaves a server running with --start, on its own settings", async () => {
    const directory = join(folder, "started");
    const port = 47_113;
    await query(
      server.url(),
      `alter system set port = ${port}`,
      `alter system set unix_socket_directories = '${folder}'`,
    );
    await chmod(folder, 0o777);
    try {
      await site.json(["backup", "full"]);
      await query(server.url("shop"), "insert into ticks default values");
      await site.json(["backup", "wal"]);
      await site.json(pitr("latest", directory, "--start"));
      const url = `postgresql://postgres@/shop?host=${encodeURIComponent(folder)}&port=${port}`;
      expect((await query(url, "select pg_is_in_recovery()::text as recovering"))[0]?.recovering).toBe(
        "false",
      );
      expect((await query(url, "show archive_mode"))[0]?.archive_mode).toBe("off");
      const running = await refusal(pitr("latest", directory, "--delta", "--confirm", directory));
      expect(running).toMatchObject({ code: 14, error: { code: "target_refused" } });
    } finally {
      const { uid, gid } = await stat(directory);
      execFileSync(join(server.binDirectory, "pg_ctl"), ["-D", directory, "-m", "fast", "-w", "stop"], {
        env: { PATH: environment.path },
        ...(process.getuid?.() === 0 ? { uid, gid } : {}),
        cwd: "/",
      });
      await query(
        server.url(),
        "alter system set port = 5432",
        `alter system set unix_socket_directories = '${server.socketDirectory}'`,
      );
    }
  });
});

describe("one database at a moment, by way of a scratch server", () => {
  test("comes back beside the live one, and rows of it are merged into it", async () => {
    const to = (written[100] as Written).after;
    await query(
      server.url("shop"),
      "delete from prices where id <= 500; update prices set price = 0 where id > 1500",
    );
    const full = await site.json([
      ...["restore", "--mode", "pitr", "--to", to, "--into-db", "shop_then", "--reason", "test"],
    ]);
    expect(full).toMatchObject({ target: "shop_then", mode: "pitr" });
    const [then] = await query(
      server.url("shop_then"),
      "select count(*)::text as rows, sum(price)::text as sum from prices",
    );
    expect(then).toEqual({ rows: "2000", sum: String((3 * 2000 * 2001) / 2) });

    const merged = await site.json([
      ...["restore", "--mode", "merge", "--to", to, "--tables", "public.prices", "--reason", "test"],
    ]);
    expect(merged.tables).toEqual([
      { table: "public.prices", inserted: 500, updated: 0, deleted: 0, unchanged: 1500 },
    ]);
    const [now] = await query(server.url("shop"), "select count(*)::text as rows from prices");
    expect(now?.rows).toBe("2000");
    // nothing of the scratch server is left
    expect(await readdir(join(folder, "tmp"))).toEqual([]);
  });
});

describe("across a change of timeline", () => {
  test("moments before it and after it are reached from a base before it", async () => {
    const signal = join(server.dataDirectory, "standby.signal");
    const { uid, gid } = await stat(server.dataDirectory);
    await writeFile(signal, "");
    await chown(signal, uid, gid);
    await server.restart();
    await query(server.url(), "select pg_promote()");
    await write(40);
    const passed = await site.json(["backup", "wal"]);
    expect(passed.metadata.timeline).toBe(2);
    await expectExact(momentBetween(65, 115));
    await expectExact(momentBetween(155, 185));
    const status = await site.json(["wal", "status"]);
    expect(status.timelines.map(({ timeline }: { timeline: number }) => timeline)).toEqual([1, 2]);
    expect(status.bases.map(({ hole }: { hole: string | null }) => hole)).toEqual(
      status.bases.map(() => null),
    );
  });
});

/** After a takeover the newest full backup leads elsewhere: what is done since is reached all the same, whatever the old server adds. */
async function expectRescued(since: string, left: string, old: string, ids: number[]): Promise<void> {
  const expectRows = async (to: string, wanted: number[]): Promise<void> => {
    const directory = join(folder, `since-${++restores}`);
    const done = await site.json(pitr(to, directory));
    expect(done.metadata.timeline).toBe(3);
    expect(await idsAt(directory)).toEqual(wanted);
    await rm(directory, { recursive: true });
  };
  await expectRows("latest", [-2, ...ids]);
  await expectRows(since, ids);
  const status = await site.json(["wal", "status"]);
  const [strayed, ...onTheWay] = status.bases;
  expect([strayed.timeline, ...onTheWay.map(({ timeline }: { timeline: number }) => timeline)]).toEqual([
    ...[2, ...onTheWay.map(() => 3)],
  ]);
  expect(status.window).toEqual({ from: onTheWay.at(-1).from, to: onTheWay[0].to });
  expect(status.warnings).toContainEqual(expect.stringContaining(`${left} is no base for timeline 3`));
  expect(status.rival).toBeNull();
  const seen = await site.json(["status"]);
  expect(seen.window.to).toEqual(status.window.to);
  expect(seen.health.reasons).toContainEqual(expect.objectContaining({ code: "left_timeline" }));

  // the takeover was an hour ago, and a job of the old server runs once more
  const now = await readFile(site.configFile, "utf8");
  const beganAt = async (at: Date): Promise<void> => {
    for (const storage of ["one", "two"]) {
      const [systemId = ""] = await readdir(join(site.folder, storage, "wal"));
      const begun = join(site.folder, storage, "wal", systemId, "00000003");
      for (const name of await readdir(begun, { recursive: true })) await utimes(join(begun, name), at, at);
    }
  };
  await beganAt(new Date(Date.now() - 3_600_000));
  await site.configure(old);
  await site.json(["backup", "full"]);
  await site.configure(now);
  await expectRows("latest", [-2, ...ids]);
  expect((await site.json(["wal", "status"])).rival).toContain("timeline 2 was still written at");
  expect((await site.json(["alerts"])).map(({ type }: { type: string }) => type)).toContain(
    "INTEGRITY_FAILURE",
  );
  await beganAt(new Date());
}

describe("a timeline that was left", () => {
  test("keeps its moments: they are found after a recovery to before them, and the plan names it", async () => {
    await write(20);
    const rescued = (written.at(-11) as Written).after;
    const wanted = (written.at(-1) as Written).after;
    await site.json(["backup", "wal"]);
    // on a timeline that the rescue leaves before it ended
    const left = await site.json(["backup", "full"]);
    await query(server.url("shop"), "insert into ticks (id) values (-9)");
    await site.json(["backup", "wal"]);
    const directory = join(folder, "rescued");
    await site.json(pitr(rescued, directory));
    const config = await readFile(site.configFile, "utf8");
    const { uid, gid } = await stat(directory);
    const control = (...args: string[]): Buffer =>
      execFileSync(join(server.binDirectory, "pg_ctl"), ["-D", directory, "-w", ...args], {
        env: { PATH: environment.path },
        ...(process.getuid?.() === 0 ? { uid, gid } : {}),
        cwd: "/",
        stdio: ["ignore", "pipe", "pipe"],
      });
    await chmod(folder, 0o777);
    control("-l", join(directory, "log"), "-o", `-p 47114 -k ${folder}`, "start");
    const other = `postgresql://postgres@/shop?host=${encodeURIComponent(folder)}&port=47114`;
    try {
      await query(other, "insert into ticks (id) values (-1)");
      await site.configure(config.replace(server.url("shop"), other));
      const passed = await site.json(["backup", "wal"]);
      expect(passed.metadata.timeline).toBe(3);
      const [{ since } = { since: "" }] = await query(
        other,
        "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as since",
      );
      await query(other, "insert into ticks (id) values (-2)");
      await site.json(["backup", "wal"]);
      const rows = await query(other, "select id::text as id from ticks where id <> -2 order by ticks.id");
      const ids = rows.map(({ id }) => Number(id));
      expect(ids).not.toContain(-9);
      expect(ids).not.toContain(written.at(-1)?.id);
      await expectRescued(since, left.label, config, ids);
      await query(other, "select pg_drop_replication_slot(slot_name) from pg_replication_slots");
    } finally {
      await site.configure(config);
      control("-m", "fast", "stop");
      await rm(directory, { recursive: true });
    }
    const plan = await site.json(pitr(wanted, join(folder, "planned"), "--dry-run"));
    expect(plan.timeline).toBe(2);
    expect(plan.warnings.join()).toContain("timeline 3 leads to");
    expect(plan.steps.join()).toContain("on timeline 2");
    await expectExact(wanted);

    const third = join(folder, "third");
    for (const more of [[], ["--timeline", "0x3"], ["--timeline", "latest"]]) {
      const newest = await site.json(pitr("latest", third, ...more, "--dry-run"));
      expect(newest.timeline).toBe(3);
      expect(newest.backupId).not.toBe(left.id);
    }
    expect((await site.json(pitr("latest", third, "--timeline", "2", "--dry-run"))).timeline).toBe(2);
    const nowhere = await refusal(pitr(wanted, third, "--timeline", "9"));
    expect(nowhere).toMatchObject({ code: 14, error: { message: "no backup leads to timeline 9" } });

    const { ways } = await site.json(["wal", "status"]);
    expect(ways.map(({ timeline, left }: Record<string, unknown>) => [timeline, left])).toEqual([
      [1, null],
      [2, { timeline: 1, lsn: expect.any(String) }],
      [3, { timeline: 2, lsn: expect.any(String) }],
    ]);
    expect((await site.run("wal", "status")).stdout).toContain(
      "along    timeline 3, which left timeline 2 at",
    );
    for (const storage of ["one", "two"]) {
      const [systemId = ""] = await readdir(join(site.folder, storage, "wal"));
      await rm(join(site.folder, storage, "wal", systemId, "00000003"), { recursive: true });
    }
  });
});

describe("what cannot be reached is refused before anything is touched", () => {
  const nowhere = (): string => join(folder, "nowhere");

  test.each([
    ["a time to come", "2099-01-01T00:00:00Z", 14, "is in the future", "a moment that has passed"],
    ["a time without a zone", "2026-11-20 12:00:00", 2, "has no zone", "Z if that is UTC"],
    [
      "a time before the base",
      "2020-01-01T00:00:00Z",
      14,
      "before the end of the oldest backup",
      "earliest moment",
    ],
    [
      "an LSN that nobody wrote",
      "FF/0",
      14,
      "the WAL that is stored ends before",
      "last moment that can be reached is LSN",
    ],
    ["nothing", "", 2, "the target in --to is empty", "latest"],
  ])("%s", async (_what, to, code, message, hint) => {
    const refused = await refusal(pitr(to, nowhere()));
    expect(refused.code).toBe(code);
    expect(refused.error.message).toContain(message);
    expect(refused.error.hint).toContain(hint);
    await expect(stat(nowhere())).rejects.toThrow("ENOENT");
  });

  test("a restore point that does not exist ends the recovery unopened", async () => {
    const refused = await refusal(pitr("no such point", nowhere()));
    expect(refused).toMatchObject({ code: 4, error: { code: "verification_failed" } });
    expect(refused.error.message).toContain('ends before the restore point "no such point"');
    await rm(nowhere(), { recursive: true, force: true });
  });

  test("a directory that holds something", async () => {
    await writeFile(join(folder, "file"), "x");
    const full = await refusal(pitr("latest", folder));
    expect(full).toMatchObject({ code: 14, error: { code: "target_refused" } });
    expect(full.error.hint).toContain("--delta");
  });

  test("everything behind a hole in the WAL", async () => {
    const [{ first } = { first: "" }] = await query(
      server.url(),
      "select pg_walfile_name(pg_current_wal_lsn()) as first",
    );
    await query(server.url("shop"), "insert into ticks default values");
    await site.json(["backup", "wal"]);
    await query(server.url("shop"), "insert into ticks default values");
    await site.json(["backup", "wal"]);
    for (const storage of ["one", "two"])
      await rm(join(site.folder, storage, await walPath(storage)), { recursive: true });
    async function walPath(storage: string): Promise<string> {
      const [systemId = ""] = await readdir(join(site.folder, storage, "wal"));
      return `wal/${systemId}/${first?.slice(0, 8)}/${first?.slice(0, 16)}/${first}.jbk`;
    }
    const refused = await refusal(pitr("latest", nowhere()));
    expect(refused).toMatchObject({ code: 14, error: { code: "target_refused" } });
    expect(refused.error.message).toContain("WAL is missing (timeline 2 from");
    const status = await site.json(["wal", "status"], [4]);
    expect(status.holes).toHaveLength(1);
    await expectExact(momentBetween(10, 100));
    expect((await site.json(["alerts"])).map(({ type }: { type: string }) => type)).toContain("WAL_GAP");
  });
});
