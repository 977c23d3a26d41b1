import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { beforeEach, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { killAt } from "../support/kill.js";
import { useShop } from "../support/shopSite.js";
import { makeSite } from "../support/site.js";
import {
  digestOfOthers,
  openQuery,
  type Rows,
  rowsOf,
  SHOP_TENANTS,
  TENANT_SHOP_SQL,
  tenantId,
} from "../support/tenantShop.js";

const shop = useShop({
  tenants: 6,
  rows: 4,
  more: "create table app.erased (table_name text, row_key text); create table app.suspended (id text);",
  config: [
    ...SHOP_TENANTS.map((line) =>
      line.replace("[app.audit_log]", "[app.audit_log, app.erased, app.suspended]"),
    ),
    "  erasures: {table: app.erased}",
    `  fence: {suspend: "insert into app.suspended select $1 where true", resume: "delete from app.suspended where id = $1"}`,
    `  afterRestore: ["insert into app.audit_log (what) values ('restored')"]`,
  ],
});
const { sql } = shop;
const A = tenantId(1);
const B = tenantId(2);
const C = tenantId(3);

const restore = (...args: string[]) => shop.site.json(["restore", "--reason", "test", ...args]);
const damage = (id: string): Promise<unknown> =>
  sql(`delete from app.repair_photos where repair_id in (select id from app.repairs where tenant_id = '${id}');
       update app.items set price = 77 where tenant_id = '${id}'; insert into app.notes values ('${id}', 'new')`);

describe("several tenants", () => {
  const allRows = async (): Promise<Rows[]> => [
    await rowsOf(sql, A),
    await rowsOf(sql, B),
    await rowsOf(sql, C),
  ];
  beforeEach(async () => {
    await shop.site.json(["backup", "tenant", "--all"]);
  });

  test("a row that the application holds is waited for, and it is said who holds it", async () => {
    const before = await rowsOf(sql, A);
    await damage(A);
    const application = await openQuery(shop.server.url("shop"));
    try {
      const [own] = await application.sql(`set application_name = 'shop-app'; begin;
        update app.items set price = price where tenant_id = '${A}'; select pg_backend_pid()::text as pid`);
      const restoring = shop.site.run("restore", "--tenant", A, "--confirm", A, "--reason", "test");
      const waits = "select 1 as waits from pg_locks where not granted";
      for (let tries = 0; tries < 200 && (await sql(waits)).length === 0; tries++) await delay(100);
      await delay(4_500);
      await application.sql("commit");
      const { code, stderr } = await restoring;
      expect(code).toBe(0);
      expect(stderr).toMatch(
        new RegExp(
          `waiting for session ${own?.pid} \\(application shop-app, idle in transaction, its query began \\d+ s ago\\) to let go of a lock`,
        ),
      );
    } finally {
      await application.close();
    }
    expect(await rowsOf(sql, A)).toEqual(before);
  });

  test("come back one after another; a run that was killed is gone on with", async () => {
    const before = await allRows();
    for (const id of [A, B, C]) await damage(id);
    const args = ["restore", "--tenant", A, B, C, "--confirm", [A, B, C].join(","), "--reason", "the three"];
    await killAt(shop.site, "tenant-committed", args);
    expect(await rowsOf(sql, A)).toEqual(before[0]);
    const ran = await shop.site.run(...args, "--json");
    const done = JSON.parse(ran.stdout);
    expect([ran.code, done.status]).toEqual([0, "completed"]);
    expect(await allRows()).toEqual(before);
    expect(done.metadata.tenants.length).toBe(3);
    // who was killed behind the commit of the first let nobody in again, and could not say that it was done
    expect((await sql("select count(*)::text as many from app.suspended"))[0]?.many).toBe("0");
    const [first] = done.metadata.tenants;
    expect(first).toMatchObject({ tenantId: A, status: "skipped" });
    const recorded = await shop.site.json(["restores", first.restoreId]);
    expect(recorded).toMatchObject({
      status: "completed",
      rowsRestored: 8,
      signature: { isGenuine: true },
      warnings: ["the run that restored it was killed behind its commit, and the next one finished it"],
    });
  });

  test("one that cannot come back is named, and keeps no other from it", async () => {
    const before = await allRows();
    for (const id of [A, B, C]) await damage(id);
    const [taken] = await sql(`select min(email) as email from app.users where tenant_id = '${B}'`);
    await sql(`update app.users set email = 'moved' where email = '${taken?.email}'`);
    await sql(
      `update app.users set email = '${taken?.email}' where id = (select min(id) from app.users where tenant_id is null)`,
    );
    const damaged = await rowsOf(sql, B);
    const args = ["restore", "--tenant", A, B, C, "--reason", "one is blocked"];
    const plans = await shop.site.run(...args, "--dry-run", "--json");
    expect(plans.code).toBe(14);
    const confirm = ["--confirm", [A, B, C].join(",")];
    const ran = await shop.site.run(...args, ...confirm, "--json");
    const done = JSON.parse(ran.stdout);
    expect([ran.code, done.status, done.tenantIds]).toEqual([3, "failed", [A, C]]);
    const blocked = done.metadata.tenants.find(({ tenantId: id }: { tenantId: string }) => id === B);
    expect(blocked).toMatchObject({
      status: "failed",
      error: "1 row of app.users holds a value of users_email_key that another row holds now",
    });
    expect(await allRows()).toEqual([before[0], damaged, before[2]]);
    await sql(`update app.users set email = 'nobody' where email = '${taken?.email}' and tenant_id is null`);
    // meanwhile the first one has lost rows again: it is not done again unasked, and not called done either
    await damage(A);
    const damagedAgain = await rowsOf(sql, A);
    const again = await shop.site.json([...args, ...confirm], [3]);
    expect(again.tenantIds).toEqual([B]);
    expect(again.metadata.tenants[0]).toMatchObject({
      tenantId: A,
      status: "failed",
      error: expect.stringMatching(
        `^restore .* brought it back, and its rows have changed since; alone, with --tenant ${A}, it is brought back again$`,
      ),
    });
    expect(await allRows()).toEqual([damagedAgain, before[1], before[2]]);
    await restore("--tenant", A, "--confirm", A);
    expect(await allRows()).toEqual(before);
  });

  test("one whose backup is damaged in every storage is named too", async () => {
    const files = ["one", "two"].flatMap((storage) => {
      const folder = join(shop.site.folder, storage, "backups", "tenant", B);
      return readdirSync(folder, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith("contents.jbk"))
        .map((name) => ({ path: join(folder, name), bytes: readFileSync(join(folder, name)) }));
    });
    await damage(A);
    const damaged = await rowsOf(sql, B);
    for (const { path, bytes } of files) writeFileSync(path, Buffer.alloc(bytes.length));
    try {
      const ran = await shop.site.run(
        ...["restore", "--tenant", A, B, "--confirm", `${A},${B}`, "--reason", "damaged", "--json"],
      );
      const done = JSON.parse(ran.stdout);
      expect([ran.code, done.tenantIds]).toEqual([3, [A]]);
      const lost = done.metadata.tenants.find(({ tenantId: id }: { tenantId: string }) => id === B);
      expect(lost).toMatchObject({ status: "failed", error: expect.stringContaining("contents.jbk") });
      expect(await rowsOf(sql, B)).toEqual(damaged);
    } finally {
      for (const { path, bytes } of files) writeFileSync(path, bytes);
    }
  });
});

test("a tenant whose newest backup is not believed comes from the one before, and that is said", async () => {
  const before = await rowsOf(sql, B);
  const older = await shop.site.json(["backup", "tenant", "--tenant", B]);
  await damage(B);
  const newer = await shop.site.json(["backup", "tenant", "--tenant", B]);
  const manifests = newer.copies.map(({ storage, path }: { storage: string; path: string }) =>
    join(shop.site.folder, storage, path, "manifest.json"),
  );
  const text = readFileSync(manifests[0], "utf8");
  for (const path of manifests) writeFileSync(path, text.replace('"rawBytes": ', '"rawBytes": 1'));
  const named = await shop.site.json(
    ["restore", newer.id, "--tenant", B, "--confirm", B, "--reason", "named"],
    [4],
  );
  expect(named.error.message).toBe(`the manifest of backup ${newer.id} was changed after it was signed`);
  const ran = await shop.site.run("restore", "--tenant", B, "--confirm", B, "--reason", "newest", "--json");
  expect([ran.code, ran.stderr]).toEqual([
    0,
    expect.stringContaining(`backup ${newer.id} of tenant ${B} is passed over: `),
  ]);
  expect(JSON.parse(ran.stdout).backupId).toBe(older.id);
  expect(await rowsOf(sql, B)).toEqual(before);
  for (const path of manifests) writeFileSync(path, text);
});

describe("into another database", () => {
  test("a tenant comes with the shared rows that it needs, if they are asked for", async () => {
    const { id } = await shop.site.json(["backup", "tenant", "--tenant", B]);
    await query(shop.server.url(), "create database other");
    const other = await openQuery(shop.server.url("other"));
    try {
      await other.sql(`${TENANT_SHOP_SQL} delete from app.countries; delete from app.currencies;
        create table app.erased (table_name text, row_key text); create table app.suspended (id text)`);
      const args = [id, "--tenant", B, "--into-db", "other"];
      const ran = await shop.site.run("restore", ...args, "--reason", "test", "--json");
      const { error } = JSON.parse(ran.stdout);
      expect([ran.code, error.code]).toEqual([14, "target_refused"]);
      expect(error.message).toContain("to rows of app.countries that do not exist");
      await restore(...args, "--with-shared");
      expect(await rowsOf(other.sql, B)).toEqual(await rowsOf(sql, B));
      expect((await other.sql("select count(*)::text as many from app.countries"))[0]?.many).toBe("1");
    } finally {
      await other.close();
    }
  });
});

describe("what was erased", () => {
  test("stays erased, with what belonged to it, and what may do without forgets it", async () => {
    const { id } = await shop.site.json(["backup", "tenant", "--tenant", C]);
    const [gone] = await sql(`select max(id)::text as id from app.customers where tenant_id = '${C}'`);
    await sql(`insert into app.erased values ('app.customers', '${gone?.id}')`);
    await sql(`delete from app.loyalty where customer_id = ${gone?.id}; update app.sales set customer_id = null where customer_id = ${gone?.id};
               update app.customers set referred_by = null where referred_by = ${gone?.id}; delete from app.customers where id = ${gone?.id}`);
    const right = await rowsOf(sql, C);
    await damage(C);
    const done = await restore(id, "--tenant", C, "--confirm", C);
    expect(await rowsOf(sql, C)).toEqual(right);
    expect(done.warnings).toEqual(
      expect.arrayContaining(["1 row of app.customers stay erased", "1 row of app.loyalty stay erased"]),
    );
    await sql("delete from app.erased");
  });
});

describe("triggers", () => {
  test("fire when they are asked to, and what they did is told", async () => {
    const { id } = await shop.site.json(["backup", "tenant", "--tenant", A]);
    const right = await rowsOf(sql, A);
    await damage(A);
    const before = Number((await sql("select count(*)::text as many from app.audit_log"))[0]?.many);
    const done = await restore(id, "--tenant", A, "--confirm", A, "--triggers", "fire");
    expect(await rowsOf(sql, A)).toEqual(right);
    expect(Number((await sql("select count(*)::text as many from app.audit_log"))[0]?.many)).toBe(before + 2); // the trigger's, and afterRestore's
    expect(done.warnings.join("\n")).toContain(
      "triggers wrote besides: app.audit_log: 1 inserted where 0 were meant",
    );
  });
});

describe("a role", () => {
  test("that is no superuser restores too, where no trigger is in its way", async () => {
    await query(shop.server.url(), "create role keeper login bypassrls");
    await sql(
      `grant usage on schema app to keeper; grant all on all tables in schema app to keeper; grant all on all sequences in schema app to keeper`,
    );
    const own = await makeSite({
      here: true,
      url: shop.server.url("shop").replace("postgres@", "keeper@"),
      more: SHOP_TENANTS.map((line) =>
        line.replace("[app.audit_log]", "[app.audit_log, app.erased, app.suspended]"),
      ),
    });
    try {
      const { id } = await own.json(["backup", "tenant", "--tenant", A]);
      const right = await rowsOf(sql, A);
      const others = await digestOfOthers(sql, A);
      await damage(A);
      const args = ["restore", id, "--tenant", A, "--confirm", A, "--reason", "test"];
      const blocked = await own.run(...args, "--json");
      expect([blocked.code, JSON.parse(blocked.stdout).error.message]).toEqual([
        14,
        expect.stringContaining("audited on app.items would fire"),
      ]);
      await own.json([...args, "--triggers", "fire"]);
      expect(await rowsOf(sql, A)).toEqual(right);
      expect(await digestOfOthers(sql, A)).toEqual(others);
      await sql("revoke insert, update, delete on app.items from keeper");
      await damage(A);
      const refused = await own.run(...args, "--triggers", "fire", "--json");
      expect([refused.code, JSON.parse(refused.stdout).error.code]).toEqual([1, "postgres_denied"]);
      expect((await rowsOf(sql, A)).items?.every((row) => row.includes("77.00"))).toBe(true);
    } finally {
      await own.remove();
    }
  });
});

test.each([
  [["--tenant", A, "--into-dir", "/tmp/x"], 2, "--into-dir does not work with --tenant"],
  [["--tenant", A, "--on-conflict", "skip"], 2, "--on-conflict does not work with --tenant"],
  [["--tenant", A, "--update-existing"], 2, "--update-existing works with --mode merge"],
  [["--tenant", A, B, "--as-tenant", C], 2, "--as-tenant works with one --tenant"],
  [["--expect-plan", "x"], 2, "--expect-plan works with --tenant only"],
  [["--tenant", A, "--mode", "pitr"], 2, "--mode pitr needs --to"],
  [["--tenant", A, "--to", "2099-01-01T00:00:00Z"], 10, "there is no physical backup to recover from"],
  [["--tenant", A, "--tables", "app.itmes"], 2, 'the tenant\'s backup has no table "app.itmes"'],
  [["--tenant", A, "--into-db", "nowhere"], 10, 'there is no database "nowhere"'],
])("%j is refused", async (args, code, message) => {
  const ran = await shop.site.run("restore", "--reason", "test", ...args, "--json");
  expect([ran.code, JSON.parse(ran.stdout).error.message]).toEqual([code, expect.stringContaining(message)]);
});
