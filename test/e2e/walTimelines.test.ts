import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseWalFile } from "../../src/domain/wal.js";
import { openWalReader } from "../../src/engine/wal/walReader.js";
import { query } from "../support/awkward.js";
import { openTestSite } from "../support/openedSite.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type RunningSite, type TestSite } from "../support/site.js";
import { type Standby, startStandby } from "../support/standby.js";

let primary: TestPostgres;
let standby: Standby;
const sites: TestSite[] = [];

/** Small segments, so that a few rows make several. */
beforeAll(async () => {
  primary = await startPostgres({
    initdb: ["--wal-segsize=1"],
    settings: { wal_level: "replica", full_page_writes: "on", wal_keep_size: "256MB", max_wal_senders: "20" },
  });
  await query(primary.url(), "create table notes (body text)");
  standby = startStandby(primary);
});

afterAll(async () => {
  standby?.stop();
  await primary?.stop();
  for (const site of sites) await site.remove();
});

const writeSegments = (url: string, count: number): Promise<unknown> =>
  query(
    url,
    ...Array.from({ length: count }, () => [
      "insert into notes select repeat(md5(random()::text), 20) from generate_series(1, 300)",
      "select pg_switch_wal()",
    ]).flat(),
  );

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; Date.now() < end; await delay(50)) if (await isSo()) return;
  throw new Error("it did not come to that in time");
}

async function standbyIsLevel(): Promise<void> {
  const [row] = await query(primary.url(), "select pg_current_wal_flush_lsn()::text as lsn");
  await until(async () => {
    const [at] = await query(standby.url(), "select pg_last_wal_replay_lsn()::text as lsn");
    return at?.lsn === row?.lsn;
  });
}

async function siteOn(name: string, url: string, more = ""): Promise<TestSite> {
  const site = await makeSite({ url, name });
  sites.push(site);
  await moveTo(site, name, url, more);
  return site;
}

const moveTo = (site: TestSite, name: string, url: string, more = ""): Promise<void> =>
  site.configure(
    `site: ${name}\ndatabase: {url: "${url}"${more}}\nstorages:\n  - {name: local, kind: local, path: ${join(site.folder, "local")}}\n`,
  );

const slotIsActive = async (name: string, url: string): Promise<boolean> => {
  const rows = await query(
    url,
    `select active::text as active from pg_replication_slots where slot_name = 'jbackup_${name}'`,
  );
  return rows[0]?.active === "true";
};

async function startFollower(name: string, site: TestSite, url: string): Promise<{ running: RunningSite }> {
  const running = site.start(["backup", "wal", "--follow", "--json"]);
  await until(() => slotIsActive(name, url));
  return { running };
}

async function endFollower({ running }: { running: RunningSite }): Promise<string> {
  process.kill(running.pid, "SIGTERM");
  const ran = await running;
  expect([ran.code, ran.code === 0 ? "" : ran.stdout + ran.stderr]).toEqual([0, ""]);
  return ran.stderr;
}

/** Every segment from the first that is stored up to the one named is stored as it lies there, and nothing is missing. */
async function expectSame(site: TestSite, url: string, upTo: string): Promise<void> {
  const status = await site.json(["wal", "status"], [0, 4]);
  expect(status.holes).toEqual([]);
  const [{ directory = "" } = {}] = await query(url, "select current_setting('data_directory') as directory");
  const opened = await openTestSite(site);
  try {
    const reader = await openWalReader(opened, status.systemId);
    const stored = (await reader.list()).flatMap(({ file }) => (file.kind === "segment" ? [file.name] : []));
    const there = (await readdir(join(directory, "pg_wal"))).filter(
      (name) => parseWalFile(name)?.kind === "segment" && name <= upTo && name >= (stored[0] ?? ""),
    );
    // the segment in which a timeline was left goes on as the next one's
    const wanted = there.filter(
      (name) => !there.some((other) => other.slice(8) === name.slice(8) && other > name),
    );
    expect(stored).toEqual(expect.arrayContaining(wanted));
    expect(wanted.length).toBeGreaterThan(5);
    for (const name of wanted) {
      const content = await readFile(join(directory, "pg_wal", name));
      expect(opened.format.withoutTail(content).equals((await reader.get(name)) as Buffer)).toBe(true);
    }
    expect((await reader.get("00000002.history"))?.toString()).toContain("no recovery target");
  } finally {
    await opened.close();
  }
}

describe("a promotion", () => {
  test("costs no WAL: between two passes, while followers are away or connected, when the slot stayed behind", async () => {
    const passes = await siteOn("passes", standby.url());
    const streamed = await siteOn("streamed", standby.url(), ", dataDirectory: stream");
    const away = await siteOn("away", standby.url());
    const connected = await siteOn("connected", standby.url(), ", dataDirectory: stream");
    const failedOver = await siteOn("failed_over", primary.url());
    for (const site of [passes, streamed, away, failedOver]) await site.json(["backup", "wal"]);
    const follower = await startFollower("connected", connected, standby.url());
    await writeSegments(primary.url(), 5);
    await standbyIsLevel();
    standby.promote();
    const [before] = await query(
      standby.url(),
      "insert into notes values ('the last')",
      "select pg_walfile_name(pg_switch_wal()) as file",
    );

    await moveTo(failedOver, "failed_over", standby.url());
    for (const site of [passes, streamed, failedOver]) {
      const passed = await site.json(["backup", "wal"]);
      expect(passed.metadata.timeline).toBe(2);
      expect(passed.metadata.segments).toBeGreaterThan(7);
    }
    const again = await startFollower("away", away, standby.url());
    for (const name of ["connected", "away"])
      await until(async () => {
        const [row] = await query(
          standby.url(),
          `select (restart_lsn = pg_current_wal_flush_lsn())::text as is_level from pg_replication_slots where slot_name = 'jbackup_${name}'`,
        );
        return row?.is_level === "true";
      });
    expect(await endFollower(again)).not.toContain("cannot be followed");
    expect(await endFollower(follower)).toContain("the server went on to timeline 2");
    for (const site of [passes, streamed, failedOver, away, connected])
      await expectSame(site, standby.url(), before?.file ?? "");
  });
});

describe("WAL that the server removed before it was stored", () => {
  test("is a gap that is told, and archiving goes on behind it", async () => {
    const site = await siteOn("gap", standby.url());
    await site.json(["backup", "wal"]);
    await query(
      standby.url(),
      "select pg_drop_replication_slot('jbackup_gap')",
      "alter system set wal_keep_size = 0",
    );
    for (const name of ["passes", "streamed", "away", "connected", "failed_over"])
      await query(standby.url(), `select pg_drop_replication_slot('jbackup_${name}')`);
    await query(standby.url(), "select pg_reload_conf()");
    await writeSegments(standby.url(), 12);
    await query(
      standby.url(),
      "alter system set max_wal_size = '2MB'",
      "alter system set min_wal_size = '2MB'",
    );
    await query(standby.url(), "select pg_reload_conf()");
    await query(standby.url(), "checkpoint");
    await writeSegments(standby.url(), 2);
    await query(standby.url(), "checkpoint");
    const passed = await site.json(["backup", "wal"]);
    expect(passed.status).toBe("completed");
    expect(passed.metadata.segments).toBe(0);
    await site.json(["backup", "wal"]);
    const alerts = await site.json(["alerts"]);
    expect(alerts.map(({ type, severity }: Record<string, string>) => [type, severity])).toContainEqual([
      "WAL_GAP",
      "critical",
    ]);
    const { holes, timelines } = await site.json(["wal", "status"]);
    expect(holes).toEqual([{ timeline: 2, from: timelines[0].to, to: timelines[1].from }]);
    expect(holes[0].to).toBe(passed.metadata.toLsn);
  });
});
