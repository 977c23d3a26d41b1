import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { killAt, resume, runUntil } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
/** Two hosts: each with a home of its own, one storage between them. */
let site: TestSite;
let elsewhere: TestSite;
let content: Record<string, string>;
const BACKUP = ["backup", "full", "--logical"];
const RESTORE = ["restore", "--reason", "test", "--confirm", "shop"];

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) as note from generate_series(1, 20000) g",
  );
  content = await contentOf(server.url("shop"));
  site = await makeSite({ url: server.url("shop") });
  await site.json(BACKUP);
  elsewhere = await makeSite({
    url: server.url("shop"),
    storages: () => [`- {name: local, kind: local, path: ${join(site.folder, "local")}}`],
    more: [
      "keys:",
      `  identity: {file: ${join(site.home, "keys/identity")}}`,
      `  signing: {file: ${join(site.home, "keys/signing")}}`,
      `  recipients: [${readFileSync(join(site.home, "keys/recipient"), "utf8").trim()}]`,
    ],
  });
});

afterAll(async () => {
  await elsewhere?.remove();
  await site?.remove();
  await server?.stop();
});

const expectHeld = async (host: TestSite, args: string[], message: RegExp): Promise<void> => {
  const { error } = await host.json(args, [11]);
  expect(error.code).toBe("locked");
  expect(error.message).toMatch(message);
};

describe("while a restore runs", () => {
  const doneBefore: { status: string }[] = [];

  test.each(["fetched", "loaded", "dressed"])(
    "at %s a second one is refused on this host and on another, and readers go on",
    async (step) => {
      const stopped = await runUntil(site, step, [...RESTORE, "--json"]);
      await expectHeld(
        site,
        RESTORE,
        new RegExp(`^another restore of this site is running \\(process ${stopped.pid}\\)$`),
      );
      await expectHeld(elsewhere, RESTORE, /^another restore of this site is running on another host$/);
      expect(await site.json(["restores"])).toMatchObject([{ status: "in_progress" }, ...doneBefore]);
      expect((await site.json(["list"])).length).toBeGreaterThan(0);
      expect((await elsewhere.json([...RESTORE, "--dry-run"])).target).toBe("shop");
      const ran = await resume(stopped);
      expect(ran.code).toBe(0);
      expect(await contentOf(server.url("shop"))).toEqual(content);
      doneBefore.unshift({ status: "completed" });
    },
  );
  test("a backup beside it works, and restores equal", async () => {
    const stopped = await runUntil(site, "loaded", [...RESTORE, "--json"]);
    const backup = await site.json(BACKUP);
    expect((await resume(stopped)).code).toBe(0);
    await site.json(["restore", backup.id, "--into-db", "proof", "--reason", "test"]);
    const { database: _, ...rows } = await contentOf(server.url("proof"));
    await query(server.url(), "drop database proof");
    const { database: __, ...expected } = content;
    expect(rows).toEqual(expected);
  });
});

describe("a lock", () => {
  test("of a killed restore is free at once, on every host", async () => {
    await killAt(site, "loaded", RESTORE);
    const done = await elsewhere.json(RESTORE);
    expect(done.status).toBe("completed");
    const left = await query(server.url(), "select datname from pg_database where datname ~ '_jbackup_'");
    expect(left).toEqual([]);
    expect(await contentOf(server.url("shop"))).toEqual(content);
  });

  test("of a killed backup is free at once, on every host", async () => {
    await killAt(site, "dumping", BACKUP);
    expect((await elsewhere.json(BACKUP)).status).toBe("completed");
    expect((await site.json(BACKUP)).status).toBe("completed");
  });
});

test("two hosts with one catalog continue one chain, and neither takes the other's run for dead", async () => {
  await query(server.url(), "create database catalog");
  for (const host of [site, elsewhere])
    await host.configure(
      `${readFileSync(host.configFile, "utf8")}catalog: {url: "${server.url("catalog")}"}\n`,
    );
  await site.json(["catalog", "rebuild"]);
  const [{ metadata: before }] = await site.json(["list"]);
  const mine = await site.json(BACKUP);
  const theirs = await elsewhere.json(BACKUP);
  expect([mine, theirs].map(({ metadata }) => metadata.sequence)).toEqual([
    before.sequence + 1,
    before.sequence + 2,
  ]);

  const stopped = await runUntil(site, "dumping", [...BACKUP, "--json"]);
  await expectHeld(elsewhere, BACKUP, /on another host$/);
  expect((await elsewhere.json(["list"]))[0].status).toBe("in_progress");
  expect(await elsewhere.json(["alerts"])).toEqual([]);
  const ran = await resume(stopped);
  expect(ran.code).toBe(0);
  expect((await elsewhere.json(["list"]))[0]).toMatchObject({
    id: JSON.parse(ran.stdout).id,
    status: "completed",
  });
});
