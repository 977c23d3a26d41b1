import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { runUntil, signalAt } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) as note from generate_series(1, 200000) g",
  );
  site = await makeSite({ url: server.url("shop"), more: ["compression: {codec: none}"] });
  await site.json(["backup", "full", "--logical"]);
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

/** Programs that were started for this site's server and are still there. */
const programs = (): { pid: number; command: string }[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0] ?? "";
        return environment.includes(`PGHOST=${server.socketDirectory}`)
          ? [{ pid: Number(pid), command }]
          : [];
      } catch {
        return []; // gone, or not ours to read
      }
    });

const children = (): string[] => programs().map(({ command }) => command);

const SIGNALS: [NodeJS.Signals, number, string][] = [
  ["SIGINT", 130, "interrupted"],
  ["SIGTERM", 143, "terminated"],
];

describe.each(SIGNALS)("%s", (signal, exit, code) => {
  test.each(["dumping", "object-stored", "dumped", "settled"])(
    "during a backup at %s takes back what was stored",
    async (step) => {
      const before = filesBelow(join(site.folder, "local"));
      const started = Date.now();
      const ran = await signalAt(site, step, signal, ["backup", "full", "--logical", "--json"]);
      expect(ran.code).toBe(exit);
      expect(Date.now() - started).toBeLessThan(12_000);
      expect(JSON.parse(ran.stdout)).toEqual({
        error: { code, message: `${code}; what was begun has been taken back`, hint: null, exitCode: exit },
      });
      expect(filesBelow(join(site.folder, "local"))).toEqual(before);
      expect(children()).toEqual([]);
      expect((await site.json(["list"]))[0].status).toBe("interrupted");
      expect((await site.json(["backup", "full", "--logical"])).status).toBe("completed"); // the lock is free
    },
  );

  test.each(["fetched", "side-created", "checked"])(
    "during a restore at %s leaves the live database alone",
    async (step) => {
      const before = await contentOf(server.url("shop"));
      const ran = await signalAt(site, step, signal, ["restore", "--reason", "test", "--confirm", "shop"]);
      expect(ran.code).toBe(exit);
      expect(await contentOf(server.url("shop"))).toEqual(before);
      expect(children()).toEqual([]);
      const names = (await query(server.url(), "select datname from pg_database")).map(
        ({ datname }) => datname,
      );
      expect(names.filter((name) => name?.includes("_jbackup_"))).toEqual([]);
      expect((await site.json(["restores"]))[0].status).toBe("cancelled");
    },
  );
});

test("the echo of a Ctrl-C, which a launcher and its group may both pass on, is no second wish", async () => {
  const { pid, ended } = await runUntil(site, "dumping", ["backup", "full", "--logical"]);
  process.kill(pid, "SIGINT");
  process.kill(pid, "SIGCONT");
  await delay(30);
  try {
    process.kill(pid, "SIGINT");
  } catch {
    // it was quicker
  }
  const { code, signal } = await ended;
  // one that comes while the program is already leaving ends it by itself: a shell shows 130 for either
  expect(signal === "SIGINT" ? 130 : code).toBe(130);
  expect((await site.json(["list"]))[0].status).toBe("interrupted");
});

test("a second Ctrl-C does not wait for the clean-up", async () => {
  const { pid, ended } = await runUntil(site, "dumping", ["backup", "full", "--logical"]);
  const dumping = programs().filter(({ command }) => command.endsWith("pg_dump"));
  expect(dumping).toHaveLength(1);
  for (const one of dumping) process.kill(one.pid, "SIGSTOP"); // it takes 5 s until such a one is killed
  try {
    process.kill(pid, "SIGINT");
    process.kill(pid, "SIGCONT");
    await delay(1000);
    const askedAgain = Date.now();
    process.kill(pid, "SIGINT");
    const { code, stderr } = await ended;
    expect(code).toBe(130);
    expect(Date.now() - askedAgain).toBeLessThan(2000);
    expect(stderr).toContain("interrupted again: stopped without clean-up");
  } finally {
    for (const one of dumping) process.kill(one.pid, "SIGKILL");
  }
  expect((await site.json(["backup", "full", "--logical"])).status).toBe("completed");
  expect((await site.json(["list", "--status", "interrupted"])).length).toBeGreaterThan(0);
});

describe("two runs at once", () => {
  test("of a backup: one wins, the other says who holds the lock and exits 11", async () => {
    const { pid, ended } = await runUntil(site, "dumping", ["backup", "full", "--logical"]);
    const other = await site.run("backup", "full", "--logical");
    expect(other.code).toBe(11);
    expect(other.stderr).toBe(
      `Error: another backup-full of this site is running (process ${pid})\nTry: wait for it to end, or end it; jbackup list --status in_progress shows what runs\n`,
    );
    expect((await site.json(["list", "--status", "in_progress"])).length).toBe(1); // readers go on
    process.kill(pid, "SIGCONT");
    expect((await ended).code).toBe(0);
  });

  test("from two hosts: the server itself holds the lock", async () => {
    const elsewhere = await makeSite({ url: server.url("shop") });
    try {
      const { pid, ended } = await runUntil(site, "dumping", ["backup", "full", "--logical"]);
      const other = await elsewhere.run("backup", "full", "--logical");
      expect(other.code).toBe(11);
      expect(other.stderr).toContain("Error: another backup-full of this site is running on another host\n");
      process.kill(pid, "SIGCONT");
      expect((await ended).code).toBe(0);
    } finally {
      await elsewhere.remove();
    }
  });
});
