import { readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { serveRestored } from "../support/restored.js";
import { makeSite, type Ran, type RunningSite, type TestSite } from "../support/site.js";

let folder: string;
let server: TestPostgres;
let site: TestSite;
let restores = 0;

const SETTINGS = { wal_level: "replica", full_page_writes: "on", synchronous_commit: "on" };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-follow-"));
  await chmod(folder, 0o755);
});

beforeEach(async () => {
  server = await startPostgres({ settings: SETTINGS });
  await query(
    server.url(),
    "create table ticks (id serial primary key, at timestamptz default clock_timestamp())",
  );
  site = await makeSite({ url: server.url() });
  await site.json(["backup", "wal"]);
  await site.json(["backup", "full"]);
  return async () => {
    await server.stop().catch(() => undefined); // some tests leave nothing of it
    await rm(server.directory, { recursive: true, force: true });
    await site.remove();
  };
});

afterAll(() => rm(folder, { recursive: true, force: true }));

interface Follower {
  pid: number;
  ended: RunningSite;
}

/** A follower that is connected. */
async function startFollower(): Promise<Follower> {
  const ended = site.start(["backup", "wal", "--follow", "--json"]);
  await until(async () => (await slot())?.active === "true");
  return { pid: ended.pid, ended };
}

const slot = async (): Promise<Record<string, string> | undefined> =>
  (
    await query(
      server.url(),
      "select active::text as active, (pg_current_wal_flush_lsn() <= restart_lsn)::text as is_level from pg_replication_slots where slot_name = 'jbackup_test'",
    )
  )[0] as Record<string, string> | undefined;

async function until(isSo: () => Promise<boolean>, withinMs = 20_000): Promise<void> {
  for (const end = Date.now() + withinMs; Date.now() < end; await delay(50))
    if (await isSo().catch(() => false)) return;
  throw new Error("it did not come to that in time");
}

async function stop(follower: Follower): Promise<Ran> {
  process.kill(follower.pid, "SIGTERM");
  const began = Date.now();
  const ran = await follower.ended;
  expect(Date.now() - began).toBeLessThan(10_000);
  return ran;
}

/** The server dies as in a power cut, and its disk is gone. */
async function destroyServer(): Promise<void> {
  const pid = Number(readFileSync(join(server.dataDirectory, "postmaster.pid"), "utf8").split("\n")[0]);
  process.kill(pid, "SIGKILL");
  await delay(300);
  await rm(server.directory, { recursive: true, force: true });
}

/** Ids and commit times of the rows that come back at the end of the WAL. */
async function restoredTicks(): Promise<number[]> {
  const directory = join(folder, `restored-${++restores}`);
  await site.json([
    "restore",
    "--mode",
    "pitr",
    "--to",
    "latest",
    "--into-dir",
    directory,
    "--reason",
    "test",
  ]);
  const restored = await serveRestored(directory, server.binDirectory);
  try {
    const rows = await query(restored.url(), "select id::text as id from ticks order by ticks.id");
    return rows.map(({ id }) => Number(id));
  } finally {
    await restored.stop();
    await rm(directory, { recursive: true, force: true });
  }
}

interface Acknowledged {
  id: number;
  at: number;
  ms: number;
}

/** Commits until the server is gone; answers what was acknowledged, and when. */
function startWriting(): { acknowledged: Acknowledged[]; ended: Promise<void> } {
  const acknowledged: Acknowledged[] = [];
  const client = new pg.Client({ connectionString: server.url() });
  client.on("error", () => undefined); // the server is killed on purpose
  const ended = (async () => {
    await client.connect();
    for (;;) {
      const began = performance.now();
      const done = await client.query("insert into ticks default values returning id").catch(() => null); // the same
      if (done === null) return;
      acknowledged.push({ id: Number(done.rows[0].id), at: Date.now(), ms: performance.now() - began });
      await delay(2);
    }
  })();
  return { acknowledged, ended };
}

const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? 0;

describe("a follower", () => {
  test("loses nothing by kills, restarts of the server, and its own end", async () => {
    const first = await startFollower();
    const second = await site.run("backup", "wal", "--follow", "--json");
    expect([second.code, JSON.parse(second.stdout).error.code]).toEqual([11, "locked"]);

    await query(server.url(), "insert into ticks select from generate_series(1, 100)");
    process.kill(first.pid, "SIGKILL");
    await first.ended;
    await query(server.url(), "insert into ticks select from generate_series(1, 100)");
    const again = await startFollower();
    await server.restart();
    await query(server.url(), "insert into ticks select from generate_series(1, 100)");
    await until(async () => (await slot())?.active === "true");
    await query(server.url(), "insert into ticks select from generate_series(1, 100)");
    const ended = await stop(again);
    expect(ended.code, ended.stderr).toBe(0);
    const backup = JSON.parse(ended.stdout);
    expect(backup).toMatchObject({ kind: "wal", status: "completed" });
    expect((await slot())?.is_level).toBe("true");

    await rm(server.dataDirectory, { recursive: true }).catch(() => undefined);
    expect((await restoredTicks()).length).toBe(400);
  });

  test("keeps up with a burst in little memory", async () => {
    const follower = await startFollower();
    await query(
      server.url(),
      "create table burst as select g as id, md5(g::text) || md5((g * 7)::text) as note from generate_series(1, 2500000) g",
    );
    await until(async () => (await slot())?.is_level === "true", 60_000);
    const peak =
      Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${follower.pid}/status`, "utf8"))?.[1]) / 1024;
    expect(peak).toBeLessThan(350);
    expect((await stop(follower)).code).toBe(0);
  });

  test("as a synchronous standby loses no commit that was acknowledged", async () => {
    const follower = await startFollower();
    await query(
      server.url(),
      "alter system set synchronous_standby_names = 'jbackup_test'",
      "select pg_reload_conf()",
    );
    await until(async () => {
      const [row] = await query(server.url(), "select sync_state from pg_stat_replication");
      return row?.sync_state === "sync";
    });
    await delay(6_000); // the follower looks for it every five seconds
    const writing = startWriting();
    await delay(4_000);
    await destroyServer();
    await writing.ended;
    process.kill(follower.pid, "SIGTERM");
    await follower.ended;
    const restored = new Set(await restoredTicks());
    const { acknowledged } = writing;
    console.log(
      `synchronous: ${acknowledged.length} commits, median ${median(acknowledged.map(({ ms }) => ms)).toFixed(1)} ms each`,
    );
    expect(acknowledged.length).toBeGreaterThan(20);
    expect(acknowledged.filter(({ id }) => !restored.has(id))).toEqual([]);
  });

  test("loses less than two seconds of commits when the server and its disk are gone", async () => {
    const follower = await startFollower();
    const writing = startWriting();
    await delay(4_000);
    await destroyServer();
    const diedAt = Date.now();
    await writing.ended;
    process.kill(follower.pid, "SIGTERM");
    await follower.ended;
    const restored = new Set(await restoredTicks());
    const lost = writing.acknowledged.filter(({ id }) => !restored.has(id));
    const lostMs = lost.length === 0 ? 0 : diedAt - Math.min(...lost.map(({ at }) => at));
    console.log(
      `asynchronous: ${writing.acknowledged.length} commits, median ${median(writing.acknowledged.map(({ ms }) => ms)).toFixed(1)} ms each, ${lost.length} lost, of the last ${lostMs} ms`,
    );
    expect(restored.size).toBeGreaterThan(100);
    expect(lostMs).toBeLessThan(2_000);
  });
});
