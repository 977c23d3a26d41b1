import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
const sites: TestSite[] = [];

beforeAll(async () => {
  server = await startPostgres({
    initdb: ["--wal-segsize=1"],
    settings: { wal_level: "replica", max_replication_slots: "3", synchronous_commit: "on" },
  });
  await query(
    server.url(),
    "create role plain login",
    "create table notes (id serial primary key, body text)",
    "create database records",
  );
});

afterAll(async () => {
  await server?.stop();
  for (const site of sites) await site.remove();
});

async function siteNamed(
  name: string,
  more: Partial<Parameters<typeof makeSite>[0]> = {},
): Promise<TestSite> {
  const site = await makeSite({ url: server.url(), name, ...more });
  sites.push(site);
  return site;
}

interface Refusal {
  code: number | null;
  error: { code: string; message: string; hint: string };
}

async function refusal(site: TestSite, ...args: string[]): Promise<Refusal> {
  const ran = await site.run("backup", "wal", ...args, "--json");
  return { code: ran.code, error: JSON.parse(ran.stdout).error };
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; Date.now() < end; await delay(50)) if (await isSo()) return;
  throw new Error("it did not come to that in time");
}

const slots = async (): Promise<string[]> =>
  (await query(server.url(), "select slot_name::text as name from pg_replication_slots order by 1")).map(
    ({ name = "" }) => name,
  );

const three = (place: string): string[] =>
  ["one", "two", "three"].map((name) => `- {name: ${name}, kind: local, path: ${join(place, name)}}`);

describe("what cannot be archived is refused, and nothing is left on the server", () => {
  test.each([["one pass"], ["a follower", "--follow"]])(
    "a role without the replication right, by %s",
    async (_, ...args) => {
      const site = await siteNamed("plain", { url: server.url("postgres", "plain") });
      const { code, error } = await refusal(site, ...args);
      expect([code, error.code]).toEqual([16, "environment"]);
      expect(error.message).toBe('the role "plain" has no replication right');
      expect(error.hint).toContain("alter role plain replication");
      expect(await slots()).toEqual([]);
    },
  );

  test("no slot left", async () => {
    const others = ["a", "b", "c"];
    for (const name of others)
      await query(server.url(), `select pg_create_physical_replication_slot('${name}')`);
    const { code, error } = await refusal(await siteNamed("late"));
    expect([code, error.code]).toEqual([16, "environment"]);
    expect(error.message).toBe("all replication slots of the server are in use");
    expect(error.hint).toContain("raise max_replication_slots");
    for (const name of others) await query(server.url(), `select pg_drop_replication_slot('${name}')`);
  });

  test("WAL that says too little", async () => {
    await query(server.url(), "alter system set wal_level = minimal", "alter system set max_wal_senders = 0");
    await server.restart();
    try {
      const { code, error } = await refusal(await siteNamed("minimal"));
      expect([code, error.code]).toEqual([16, "environment"]);
      expect(error.message).toBe("wal_level is minimal: such WAL cannot be archived");
      expect(error.hint).toContain("wal_level = replica");
    } finally {
      await query(server.url(), "alter system reset wal_level", "alter system reset max_wal_senders");
      await query(server.url(), "alter system set wal_level = replica");
      await server.restart();
    }
  });
});

describe("a storage that is gone", () => {
  test("costs exit 3 and an alert, by one pass and by a follower; the next pass fills the gap", async () => {
    const site = await siteNamed("copies", { storages: three });
    await site.json(["backup", "wal", "--note", "before the trip"]);
    await rename(join(site.folder, "three"), join(site.folder, "gone"));
    await writeFile(join(site.folder, "three"), "a disk that is not mounted");
    const passed = await site.json(["backup", "wal"], [3]);
    expect(passed.copies.map(({ status }: { status: string }) => status)).toEqual([
      "stored",
      "stored",
      "missing",
    ]);

    const follower = site.start(["backup", "wal", "--follow", "--json"]);
    await query(server.url(), "insert into notes (body) values ('followed')");
    await until(async () => {
      const [row] = await query(
        server.url(),
        "select (restart_lsn = pg_current_wal_flush_lsn())::text as is_level from pg_replication_slots where active",
      );
      return row?.is_level === "true";
    });
    process.kill(follower.pid, "SIGTERM");
    expect((await follower).code).toBe(3);
    const open = await site.json(["alerts"]);
    expect(open.map(({ type, storage }: Record<string, string>) => [type, storage])).toContainEqual([
      "COPY_MISSING",
      "three",
    ]);

    await rm(join(site.folder, "three"));
    await rename(join(site.folder, "gone"), join(site.folder, "three"));
    const healed = await site.json(["backup", "wal"]);
    expect(healed.copies.map(({ status }: { status: string }) => status)).toEqual([
      "stored",
      "stored",
      "stored",
    ]);
    expect(await site.json(["alerts"])).toEqual([]);
    const rows = await site.json(["list", "--kind", "wal"]);
    expect(rows.map(({ note }: { note: string | null }) => note)).toContain("before the trip");
    await query(server.url(), "select pg_drop_replication_slot('jbackup_copies')");
  });
});

describe("a follower that commits wait for", () => {
  test("starts although its own records are in a database of that server", async () => {
    const site = await siteNamed("waited", { more: [`catalog: {url: "${server.url("records")}"}`] });
    await site.json(["backup", "wal"]);
    await query(
      server.url(),
      "alter system set synchronous_standby_names = 'jbackup_waited'",
      "select pg_reload_conf()",
    );
    try {
      const began = Date.now();
      const follower = site.start(["backup", "wal", "--follow", "--json"]);
      await query(
        server.url(),
        "set synchronous_commit = on",
        "insert into notes (body) values ('waited for')",
      );
      const waitedMs = Date.now() - began;
      process.kill(follower.pid, "SIGTERM");
      const ran = await follower;
      expect(ran.code).toBe(0);
      expect(waitedMs).toBeLessThan(8_000);
      expect(JSON.parse(ran.stdout).status).toBe("completed");
    } finally {
      await query(server.url(), "alter system reset synchronous_standby_names", "select pg_reload_conf()");
    }
  });
});
