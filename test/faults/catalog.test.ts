import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

beforeEach(async () => {
  await query(server.url(), "create database shop");
  await query(server.url("shop"), "create table t as select g as id from generate_series(1, 1000) g");
  site = await makeSite({ url: server.url("shop") });
});
afterEach(async () => {
  await site.remove();
  for (const { name } of await query(
    server.url(),
    "select datname as name from pg_database where datname not in ('postgres', 'template0', 'template1')",
  ))
    await query(server.url(), `drop database "${name}" with (force)`);
});

const BACKUP = ["backup", "full", "--logical"];
const rowsIn = async (database: string): Promise<string | undefined> =>
  (await contentOf(server.url(database)))["public.t (r)"];

describe("a catalog", () => {
  test("that is down stops no backup and no restore, and gets its records when it is back", async () => {
    const config = readFileSync(site.configFile, "utf8");
    await site.configure(`${config}catalog: {url: "postgresql://nobody@127.0.0.1:1/none"}\n`);
    const ran = await site.run(...BACKUP, "--json");
    expect(ran.code).toBe(0);
    const backup = JSON.parse(ran.stdout);
    expect(ran.stderr).toContain("records go to the journal and are written later");
    const restored = await site.json(["restore", "latest", "--into-db", "copy", "--reason", "catalog down"]);
    expect(restored.backupId).toBe(backup.id);
    expect(await rowsIn("copy")).toBe(await rowsIn("shop"));
    expect((await site.run("list")).code).toBe(1);

    await query(server.url(), "create database catalog");
    await site.configure(`${config}catalog: {url: "${server.url("catalog")}"}\n`);
    expect(
      (await site.json(["list"])).map(({ id, status }: { id: string; status: string }) => ({ id, status })),
    ).toEqual([{ id: backup.id, status: "completed" }]);
    expect(await site.json(["restores"])).toMatchObject([{ id: restored.id, status: "completed" }]);
  });

  test("whose file is garbage says so and how to get it back", async () => {
    const backup = await site.json(BACKUP);
    for (const name of readdirSync(site.home).filter((entry) => entry.startsWith("catalog.db")))
      rmSync(join(site.home, name));
    writeFileSync(
      join(site.home, "catalog.db"),
      "this is no database at all, but long enough to look like one ".repeat(200),
    );
    const listed = await site.run("list");
    expect(listed.code).toBe(1);
    expect(listed.stderr).toMatch(/Error: .*catalog\.db/);
    expect(listed.stderr).toMatch(/Try: .*catalog rebuild/);
    const restored = await site.json(["restore", backup.id, "--into-db", "copy", "--reason", "garbage"]);
    expect(restored.status).toBe("completed");
    expect(await rowsIn("copy")).toBe(await rowsIn("shop"));
  });

  test("that was put back to an older day does not hide a newer backup", async () => {
    await site.json(BACKUP);
    copyFileSync(join(site.home, "catalog.db"), join(site.folder, "older.db"));
    await query(server.url("shop"), "insert into t values (5000)");
    const newer = await site.json(BACKUP);
    for (const name of readdirSync(site.home).filter((entry) => entry.startsWith("catalog.db")))
      rmSync(join(site.home, name));
    copyFileSync(join(site.folder, "older.db"), join(site.home, "catalog.db"));
    const restored = await site.json(["restore", newer.id, "--into-db", "copy", "--reason", "older catalog"]);
    expect(restored.backupId).toBe(newer.id);
    expect(await rowsIn("copy")).toBe(await rowsIn("shop"));
    expect(await site.json(["catalog", "rebuild"])).toMatchObject({ found: 2, added: 1 });
    expect((await site.json(["list"])).map(({ id }: { id: string }) => id)).toContain(newer.id);
  });

  test("may live in the very database that is restored", async () => {
    await site.configure(`${readFileSync(site.configFile, "utf8")}catalog: {url: "${server.url("shop")}"}\n`);
    await site.json(BACKUP);
    await query(server.url("shop"), "delete from t");
    const restored = await site.json(["restore", "--reason", "rows gone", "--confirm", "shop"]);
    expect(restored.status).toBe("completed");
    expect((await query(server.url("shop"), "select count(*)::text as n from t"))[0]?.n).toBe("1000");
    await site.json(["catalog", "rebuild"]);
    expect((await site.json(["list"]))[0]).toMatchObject({ id: restored.backupId, status: "completed" });
    expect((await site.json(["restores"]))[0]).toMatchObject({ id: restored.id, status: "completed" });
  });
});
