import { describe, expect, test } from "vitest";
import { useShop } from "../support/shopSite.js";
import { makeSite } from "../support/site.js";
import { SHOP_TENANTS, tenantId } from "../support/tenantShop.js";

const shop = useShop({ tenants: 8, rows: 3 });
const { sql } = shop;

const CLASSES = {
  "app.audit_log": "ignored",
  "app.branches": "direct",
  "app.categories": "direct",
  "app.countries": "shared",
  "app.currencies": "shared",
  "app.customers": "direct",
  "app.items": "direct",
  "app.loyalty": "child",
  "app.notes": "direct",
  "app.notifications": "direct",
  "app.purchase_items": "child",
  "app.purchase_orders": "child",
  "app.repair_photos": "child",
  "app.repairs": "direct",
  "app.sale_items": "child",
  "app.sales": "direct",
  "app.settings": "direct",
  "app.suppliers": "direct",
  "app.tenants": "root",
  "app.terminals": "child",
  "app.users": "direct",
};

type Covered = {
  table: string;
  class: string;
  owner: string;
  findings: { severity: string; kind: string; message: string }[];
};
const covered = async (
  codes: number[] = [0],
): Promise<{ tables: Covered[]; problems: string[]; decided: boolean }> =>
  shop.site.json(["tenants", "coverage", "--check"], codes);
const kindsOf = (tables: Covered[], name: string): string[] =>
  tables.find(({ table }) => table === name)?.findings.map(({ kind }) => kind) ?? [];

test("every table has its class, and a child its way to the tenant", async () => {
  const { tables, problems, decided } = await covered();
  expect(Object.fromEntries(tables.map((table) => [table.table, table.class]))).toEqual(CLASSES);
  expect([problems, decided]).toEqual([[], true]);
  expect(tables.find(({ table }) => table === "app.sale_items")?.owner).toBe(
    "through sale_items_sale_id_sold_on_fkey",
  );
  expect(kindsOf(tables, "app.users")).toContain("nobodys");
  expect(kindsOf(tables, "app.notes")).toContain("no_key");
  expect(kindsOf(tables, "app.items")).toEqual(
    expect.arrayContaining(["identity", "generated", "trigger", "sequence"]),
  );
  expect(kindsOf(tables, "app.sales")).toEqual(expect.arrayContaining(["partitioned", "bare_partitions"]));
});

test("everything that may surprise is shown", async () => {
  const changes: [make: string, undo: string][] = [
    ["create table app.logins (id int, user_id bigint references app.users)", "drop table app.logins"],
    [
      "create table app.seen (id int, user_id bigint references app.users on delete cascade)",
      "drop table app.seen",
    ],
    ["alter table app.notes set unlogged", "alter table app.notes set logged"],
    ["alter table app.notes add scan oid", "alter table app.notes drop scan"],
    ["create table app.old_notes () inherits (app.notes)", "drop table app.old_notes"],
    ["drop index app.notes_tenant_id_idx", "create index on app.notes (tenant_id)"],
    [
      "insert into app.notes select id, 'many' from app.tenants, generate_series(1, 1500)",
      "delete from app.notes where body = 'many'",
    ],
    ["analyze app.notes", "analyze app.notes"],
    ["select lo_create(4711)", "select lo_unlink(4711)"],
    ["create materialized view app.sums as select 1 as one", "drop materialized view app.sums"],
    ["create foreign data wrapper far", "drop foreign data wrapper far cascade"],
    ["create server far foreign data wrapper far", "select 1"],
    ["create foreign table app.far (id int) server far", "select 1"],
    [
      "alter table app.suppliers disable row level security",
      "alter table app.suppliers enable row level security",
    ],
    [
      "alter table app.repairs no force row level security",
      "alter table app.repairs force row level security",
    ],
    [
      "create policy wide on app.notifications using (tenant_id is not null)",
      "drop policy wide on app.notifications",
    ],
    ["alter table app.items enable always trigger audited", "alter table app.items enable trigger audited"],
  ];
  const expected: [table: string, kind: string, severity: string][] = [
    ["app.customers", "deferrable", "info"],
    ["app.categories", "self_reference", "info"],
    ["app.logins", "refers_in", "info"],
    ["app.seen", "reaches_out", "warning"],
    ["app.notes", "unlogged", "warning"],
    ["app.notes", "oid", "warning"],
    ["app.notes", "inheritance", "warning"],
    ["app.notes", "no_index", "warning"],
    ["app.tenants", "large_objects", "warning"],
    ["app.tenants", "materialized_view", "warning"],
    ["app.tenants", "foreign_table", "warning"],
    ["app.suppliers", "no_policy", "warning"],
    ["app.repairs", "not_forced", "info"],
    ["app.notifications", "open_policy", "warning"],
    ["app.items", "trigger", "warning"],
  ];
  const other = await makeSite({
    here: true,
    url: shop.server.url("shop"),
    more: SHOP_TENANTS.map((line) => line.replace("app.audit_log", "app.audit_log, app.logins, app.seen")),
  });
  const before = new Set(
    (await covered()).tables.flatMap((one) => one.findings.map(({ kind }) => `${one.table} ${kind}`)),
  );
  for (const [make] of changes) await sql(make);
  try {
    const { tables }: { tables: Covered[] } = await other.json(["tenants", "coverage"]);
    const found = tables.flatMap((one) =>
      one.findings.map(({ kind, severity }) => [one.table, kind, severity]),
    );
    expect(found).toEqual(expect.arrayContaining(expected));
    expect(before.has("app.notes unlogged")).toBe(false);
  } finally {
    for (const [, undo] of changes.toReversed()) await sql(undo);
    await other.remove();
  }
  expect(
    new Set(
      (await covered()).tables.flatMap((one) => one.findings.map(({ kind }) => `${one.table} ${kind}`)),
    ),
  ).toEqual(before);
});

test("the tenants are listed, with their last backups", async () => {
  await shop.site.json(["backup", "tenant", "--tenant", tenantId(7)]);
  const listed = await shop.site.json(["tenants", "list"]);
  expect(listed.length).toBe(8);
  expect(listed.find(({ id }: { id: string }) => id === tenantId(7))).toMatchObject({
    name: 'Shop 7 é世 "quoted"',
    active: false,
    lastBackupStatus: "completed",
  });
  expect(listed[0]).toMatchObject({ id: tenantId(1), active: true, lastBackupAt: null });
});

describe("what nobody may guess", () => {
  test.each([
    [
      "a table that nothing leads to",
      "create table app.misc (id int primary key)",
      "drop table app.misc",
      /app\.misc: nothing leads/,
    ],
    [
      "a table whose only way may be null",
      "create table app.visits (id int primary key, customer_id bigint references app.customers)",
      "drop table app.visits",
      /app\.visits: its rows need no owner/,
    ],
    [
      "rows that two tenants could claim",
      `update app.sale_items set item_id = (select min(id) from app.items where tenant_id = '${tenantId(2)}')
        where (sale_id, sold_on) = (select id, sold_on from app.sales where tenant_id = '${tenantId(1)}' order by id limit 1)`,
      `update app.sale_items x set item_id = (select min(i.id) from app.items i join app.sales s on s.tenant_id = i.tenant_id where s.id = x.sale_id)`,
      /app\.sale_items: 2 rows of app\.sale_items belong to one tenant by .* and to another by/,
    ],
    [
      "rows that refer to another tenant's",
      `update app.sales set customer_id = (select min(id) from app.customers where tenant_id = '${tenantId(2)}')
        where id = (select min(id) from app.sales where tenant_id = '${tenantId(1)}')`,
      `update app.sales s set customer_id = (select min(id) from app.customers c where c.tenant_id = s.tenant_id)`,
      /app\.sales: 1 row of app\.sales refers by .* to rows of app\.customers of another tenant/,
    ],
    [
      "a policy on another column",
      "create policy odd on app.suppliers using (name = current_setting('app.tenant_id', true)); drop policy own on app.suppliers",
      "drop policy odd on app.suppliers; create policy own on app.suppliers using (tenant_id = current_setting('app.tenant_id', true)::uuid)",
      /app\.suppliers: its policies look at name, not at tenant_id/,
    ],
  ])("%s is a problem", async (_what, make, undo, problem) => {
    await sql(make);
    try {
      const { problems } = await covered([4]);
      expect(problems).toEqual([expect.stringMatching(problem)]);
    } finally {
      await sql(undo);
    }
    expect((await covered()).problems).toEqual([]);
  });

  test("stops a backup of tenants, and names what to decide", async () => {
    await sql("create table app.misc (id int primary key)");
    try {
      const ran = await shop.site.run("backup", "tenant", "--all", "--json");
      const { error } = JSON.parse(ran.stdout);
      expect([ran.code, error.code]).toEqual([2, "config_invalid"]);
      expect(error.message).toContain("app.misc is unknown");
      expect(error.details.tables).toEqual([{ table: "app.misc", class: "unknown" }]);
    } finally {
      await sql("drop table app.misc");
    }
  });

  test("a name in the configuration that no table has is told, with what was meant", async () => {
    const other = await makeSite({
      here: true,
      url: shop.server.url("shop"),
      more: SHOP_TENANTS.map((line) => line.replace("app.audit_log", "app.audit_log, app.adit_log")),
    });
    try {
      const { problems } = await other.json(["tenants", "coverage", "--check"], [4]);
      expect(problems).toEqual([
        "the configuration names app.adit_log, and there is no such table; did you mean app.audit_log?",
      ]);
    } finally {
      await other.remove();
    }
  });
});

test.each([
  [["tenants: {table: app.nothing}"], /tenants\.table names app\.nothing/],
  [["tenants: {table: app.tenants, idColumn: nr}"], /tenants\.idColumn names nr/],
  [[], /the configuration names no tenants/],
])("a configuration without a usable table of tenants is refused", async (more, message) => {
  const other = await makeSite({ here: true, url: shop.server.url("shop"), more });
  try {
    const ran = await other.run("tenants", "list", "--json");
    const { error } = JSON.parse(ran.stdout);
    expect([ran.code, error.code]).toEqual([2, "config_invalid"]);
    expect(error.message).toMatch(message);
  } finally {
    await other.remove();
  }
});
