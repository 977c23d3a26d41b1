import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { useShop } from "../support/shopSite.js";
import { digestOfOthers, rowsOf, tenantId } from "../support/tenantShop.js";

const shop = useShop({ tenants: 8, rows: 5, settings: { wal_level: "replica" } });
const { sql } = shop;
const A = tenantId(1);
const B = tenantId(2);

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

  const plan = await shop.site.json(["restore", "--tenant", A, "--to", moment, "--dry-run"]);
  expect(plan.tables.find(({ table }: { table: string }) => table === "app.sales")).toMatchObject({
    inserted: 5,
  });
  expect(await digestOfOthers(sql, A)).toEqual(others);

  const done = await restore("--tenant", A, "--to", moment, "--mode", "pitr", "--expect-plan", plan.planHash);
  expect(done).toMatchObject({ status: "completed", mode: "pitr", tenantIds: [A] });
  expect(done.metadata.times.broughtUpMs).toBeGreaterThan(0);
  expect(await rowsOf(sql, A)).toEqual(good);
  expect(await digestOfOthers(sql, A)).toEqual(others);

  const [made] = (await shop.site.json(["list", "--kind", "tenant", "--tenant", A])).filter(
    ({ metadata }: { metadata: { source: { kind: string } } }) => metadata.source.kind === "backup",
  );
  await sql(`delete from app.notes where tenant_id = '${A}'`);
  await restore(made.id, "--tenant", A);
  expect(await rowsOf(sql, A)).toEqual(good);
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
