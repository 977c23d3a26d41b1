import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { killAt } from "../support/kill.js";
import { expectRefused } from "../support/refusal.js";
import { useShop } from "../support/shopSite.js";
import { digestOfOthers, rowsOf, SHOP_TENANTS, tenantId } from "../support/tenantShop.js";

const shop = useShop({ tenants: 8, rows: 5, settings: { wal_level: "replica" } });
const { sql } = shop;
const A = tenantId(1);
const B = tenantId(2);
const C = tenantId(3);

const now = async (): Promise<string> => {
  const [row] = await sql(
    "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as now",
  );
  return row?.now ?? "";
};
const restore = (...args: string[]) => shop.site.json(["restore", "--reason", "test", ...args]);

test("one tenant comes back as it was at a moment, and nobody else goes back with it", async () => {
  await shop.site.json(["backup", "full"]);
  await sql(`update app.items set price = price + 1 where tenant_id in ('${A}', '${B}')`);
  const good = await rowsOf(sql, A);
  const moment = await now();
  await delay(1_100);
  await sql(
    `delete from app.sale_items where (sale_id, sold_on) in (select id, sold_on from app.sales where tenant_id = '${A}')`,
  );
  await sql(`delete from app.sales where tenant_id = '${A}'`);
  await sql(`update app.customers set name = 'later' where tenant_id = '${B}'`);
  await shop.site.json(["backup", "wal"]);
  const others = await digestOfOthers(sql, A);

  const out = join(shop.site.folder, "exported");
  await expectRefused(shop.site, ["tenants", "export", "--tenant", A, "--out", out], {
    exit: 10,
    message: `there is no backup of tenant ${A}`,
    hint: `jbackup backup tenant --tenant ${A} makes one; of an earlier moment, jbackup restore --tenant ${A} --to TIME --dry-run makes one, whose id jbackup list --kind tenant --tenant ${A} shows`,
  });
  const plan = await shop.site.json(["restore", "--tenant", A, "--to", moment, "--dry-run"]);
  expect(plan.timeline).toBe(1);
  expect(plan.tables.find(({ table }: { table: string }) => table === "app.sales")).toMatchObject({
    inserted: 5,
  });
  expect(await digestOfOthers(sql, A)).toEqual(others);
  const asked = ["restore", "--tenant", A, "--timeline", "7", "--dry-run"];
  await expectRefused(shop.site, [...asked, "--to", moment], {
    exit: 14,
    message: "no backup leads to timeline 7",
    hint: "jbackup wal status shows the timelines that are stored and what can be reached on each",
  });
  await expectRefused(shop.site, asked, {
    exit: 2,
    message: "--timeline needs --to",
    hint: "say which moment on it is meant, such as --to latest",
  });

  const done = await restore("--tenant", A, "--to", moment, "--mode", "pitr", "--expect-plan", plan.planHash);
  expect(done).toMatchObject({ status: "completed", mode: "pitr", tenantIds: [A] });
  // the dry run has been there: nobody goes twice
  expect(done.metadata.times.broughtUpMs).toBeUndefined();
  expect(done.backupId).toBe(plan.backupId);
  expect(await rowsOf(sql, A)).toEqual(good);
  expect(await digestOfOthers(sql, A)).toEqual(others);

  const [made] = (await shop.site.json(["list", "--kind", "tenant", "--tenant", A])).filter(
    ({ metadata }: { metadata: { source: { kind: string } } }) => metadata.source.kind === "backup",
  );
  await sql(`delete from app.notes where tenant_id = '${A}'`);
  await restore(made.id, "--tenant", A);
  expect(await rowsOf(sql, A)).toEqual(good);
  const exported = await shop.site.json(["tenants", "export", made.id, "--tenant", A, "--out", out]);
  expect(exported.backupId).toBe(made.id);
});

test("several tenants go back to a moment, and a run that was killed is gone on with, without going there again", async () => {
  const ids = [A, B, C];
  const all = () => Promise.all(ids.map((id) => rowsOf(sql, id)));
  const good = await all();
  const moment = await now();
  await delay(1_100);
  await sql(`update app.items set price = 99 where tenant_id in ('${ids.join("', '")}')`);
  await shop.site.json(["backup", "wal"]);
  const args = [
    "restore",
    "--tenant",
    ...ids,
    "--to",
    moment,
    "--confirm",
    ids.join(","),
    "--reason",
    "three",
  ];
  await killAt(shop.site, "tenant-committed", args);
  expect(await rowsOf(sql, A)).toEqual(good[0]);
  expect(await rowsOf(sql, B)).not.toEqual(good[1]);
  // what A's own users did since then stays: it is restored already
  await sql(`insert into app.notes values ('${A}', 'since then')`);
  const ran = await shop.site.run(...args, "--json");
  const done = JSON.parse(ran.stdout);
  expect([ran.code, done.status]).toEqual([0, "completed"]);
  expect(done.metadata.tenants.map(({ status }: { status: string }) => status)).toEqual([
    "skipped",
    "completed",
    "completed",
  ]);
  expect(ran.stderr).not.toContain("recover");
  expect(await rowsOf(sql, A)).toEqual({
    ...good[0],
    notes: [...(good[0]?.notes ?? []), `(${A},"since then")`].sort(),
  });
  expect((await all()).slice(1)).toEqual(good.slice(1));
  await sql("delete from app.notes where body = 'since then'");
});

test("what still holds an erased tenant is told, with the WAL, and until when", async () => {
  const site = await shop.siteWith([
    ...SHOP_TENANTS,
    "retention: {pitrWindow: 7d, one: {within: 14d}, two: {within: 30d}}",
  ]);
  try {
    await site.json(["backup", "full"]);
    const { id } = await site.json(["backup", "tenant", "--tenant", B]);
    await site.json(["backup", "tenant", "--tenant", B, "--note", "unchanged: refers to the one before"]);
    await sql("insert into app.notes values ($1, 'for the WAL')", [B]);
    await site.json(["backup", "wal"]);
    const check = await site.json(["tenants", "erase-check", "--tenant", B]);
    const inDays = (until: string): number => Math.round((Date.parse(until) - Date.now()) / 86_400_000);
    expect(check.wal.map(({ storage }: { storage: string }) => storage)).toEqual(["one", "two"]);
    for (const { objects, until } of check.wal) {
      expect(objects).toBeGreaterThan(0);
      expect(inDays(until)).toBe(7);
    }
    const full = check.backups.find(({ kind }: { kind: string }) => kind === "full");
    expect([inDays(full.until), full.storages]).toEqual([30, ["one", "two"]]);
    const own = check.backups.find((backup: { id: string }) => backup.id === id);
    // its newest one is never removed, and it lives on the objects of this one
    expect([own.until, own.why]).toEqual([
      null,
      ["younger than the policy's span", "a kept backup builds on it"],
    ]);
    expect(check.until).toBeNull();
  } finally {
    await site.remove();
  }
});

test("one tenant comes back out of a physical full as it ended, and out of a logical one", async () => {
  const good = await rowsOf(sql, B);
  const physical = await shop.site.json(["backup", "full"]);
  const logical = await shop.site.json(["backup", "full", "--logical"]);
  for (const backup of [physical, logical]) {
    await sql(
      `delete from app.repair_photos where repair_id in (select id from app.repairs where tenant_id = '${B}')`,
    );
    await sql(`update app.branches set name = name || '!' where tenant_id = '${B}'`);
    const others = await digestOfOthers(sql, B);
    await restore(backup.id, "--tenant", B, "--confirm", B);
    expect(await rowsOf(sql, B)).toEqual(good);
    expect(await digestOfOthers(sql, B)).toEqual(others);
  }
  const left = await query(
    shop.server.url(),
    "select datname from pg_database where datname like 'jbackup%'",
  );
  expect(left).toEqual([]);
});
