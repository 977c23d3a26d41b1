import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { rowsByPlace } from "../support/cloneOracle.js";
import { keepWritingTwice, type MirroredShop, mirroredShop } from "../support/mirror.js";
import { type Rows, rowsOf, tenantId } from "../support/tenantShop.js";

const TENANTS = 8;
const A = tenantId(1);
const CLONE = tenantId(501);
const BUSY = [
  [tenantId(3), tenantId(4)],
  [tenantId(5), tenantId(6), tenantId(7)],
];
const OTHERS = Array.from({ length: TENANTS }, (_, nth) => tenantId(nth + 1)).filter((id) => id !== A);

let shop: MirroredShop;
let writers: { stop(): Promise<number> }[];
let before: Rows;

beforeAll(async () => {
  shop = await mirroredShop({ tenants: TENANTS, rows: 5, settings: { wal_level: "replica" } });
  // parallel plans, as large tables have them: nothing may rely on the order of their answers
  for (const setting of ["parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"])
    await shop.sql(`alter database shop set ${setting} = 0`);
  await shop.site.json(["backup", "full"]);
  await shop.site.json(["backup", "tenant", "--all"]);
});
afterAll(() => shop.stop());

beforeEach(async () => {
  before = await rowsOf(shop.sql, A);
  writers = BUSY.map((tenants) => keepWritingTwice(shop.server, tenants));
});
afterEach(async () => {
  for (const writer of writers) await writer.stop();
});

const DAMAGE = `
  delete from app.repair_photos where repair_id in (select id from app.repairs where tenant_id = '${A}');
  update app.items set price = 77, tags = '{changed}' where tenant_id = '${A}';
  insert into app.customers (tenant_id, name) values ('${A}', 'new after the backup');
  delete from app.sale_items where (sale_id, sold_on) in (select id, sold_on from app.sales where tenant_id = '${A}' order by id limit 2)`;

/** Whatever the writers did stands in the shop as in its twin, and nothing else: byte by byte, tenant by tenant. */
async function requireOthersAsTheyWrote(): Promise<void> {
  const turns = await Promise.all(writers.map((writer) => writer.stop()));
  for (const many of turns) expect(many).toBeGreaterThan(2);
  for (const id of OTHERS)
    expect([id, await rowsOf(shop.sql, id)]).toEqual([id, await rowsOf(shop.twin, id)]);
  for (const table of ["currencies", "countries"]) {
    const all = `select t::text as row from app.${table} t order by 1`;
    expect(await shop.sql(all)).toEqual(await shop.twin(all));
  }
}

test("a tenant is replaced while others work, and a proof of everybody else holds all the same", async () => {
  await shop.sql(DAMAGE);
  const done = await shop.site.json([
    "restore",
    "--tenant",
    A,
    "--confirm",
    A,
    "--prove",
    "full",
    "--reason",
    "busy",
  ]);
  await requireOthersAsTheyWrote();
  expect(await rowsOf(shop.sql, A)).toEqual(before);
  const { others } = done.metadata.report.proof;
  expect(others).toMatchObject({ tables: 21, changedByTriggers: [] });
  expect(others.rows).toBeGreaterThan(500);
});

test("a tenant is merged while others work: what is gone comes back, what changed does or does not", async () => {
  await shop.sql(DAMAGE);
  const damaged = await rowsOf(shop.sql, A);
  await shop.site.json(["restore", "--tenant", A, "--mode", "merge", "--reason", "busy", "--prove", "full"]);
  expect(await rowsOf(shop.sql, A)).toEqual({
    ...damaged,
    repair_photos: before.repair_photos,
    sale_items: before.sale_items,
  });
  const all = ["--update-existing", "--delete-new", "--confirm", A];
  await shop.site.json(["restore", "--tenant", A, "--mode", "merge", ...all, "--reason", "busy"]);
  await requireOthersAsTheyWrote();
  expect(await rowsOf(shop.sql, A)).toEqual(before);
});

test("a tenant is cloned while others work: the same rows, under keys and a name of their own", async () => {
  await shop.site.json([
    "restore",
    "--tenant",
    A,
    "--as-tenant",
    CLONE,
    "--reason",
    "busy",
    "--prove",
    "full",
  ]);
  await requireOthersAsTheyWrote();
  expect(await rowsOf(shop.sql, A)).toEqual(before);
  const [original, clone] = [await rowsByPlace(shop.sql, A), await rowsByPlace(shop.sql, CLONE)];
  const suffix = `-${CLONE.slice(-12)}`;
  const expected: Rows = {
    ...original,
    tenants: (original.tenants ?? []).map((row) => row.replace("shop-1,", `shop-1${suffix},`)),
    // a secret is left behind, a name that nobody may share is marked
    users: (original.users ?? []).map((row) => row.replace(/@shop1,.*\)$/, `@shop1${suffix},)`)),
  };
  expect(clone).toEqual(expected);
  expect(Object.values(clone).flat().length).toBeGreaterThan(50);
  const keys = `select id::text from app.customers where tenant_id = any($1::uuid[]) group by id having count(*) > 1`;
  expect(await shop.sql(keys, [[A, CLONE]])).toEqual([]);
});

test("a tenant goes back to a moment while others go on from there", async () => {
  const [now] = await shop.sql(
    "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at",
  );
  await delay(1_100);
  await shop.sql(DAMAGE);
  await shop.site.json(["backup", "wal"]);
  const done = await shop.site.json([
    "restore",
    "--tenant",
    A,
    "--to",
    now?.at ?? "",
    "--confirm",
    A,
    "--reason",
    "busy",
    "--prove",
    "full",
  ]);
  await requireOthersAsTheyWrote();
  expect(done.metadata.times.broughtUpMs).toBeGreaterThan(0);
  expect(await rowsOf(shop.sql, A)).toEqual(before);
});
