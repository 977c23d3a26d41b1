import { beforeEach, describe, expect, test } from "vitest";
import { useShop } from "../support/shopSite.js";
import { digestOfOthers, keepWriting, rowsOf, tenantId } from "../support/tenantShop.js";

const shop = useShop({ tenants: 12, rows: 6 });
const { sql } = shop;
const A = tenantId(1);
const B = tenantId(2);
const OTHERS = [tenantId(3), tenantId(4), tenantId(5)];

/** Everything that a bad afternoon does to a tenant. */
const DAMAGE = `
  delete from app.sale_items where (sale_id, sold_on) in (select id, sold_on from app.sales where tenant_id = $1 order by id limit 3);
  delete from app.sales where tenant_id = $1 and not exists (select from app.sale_items i where i.sale_id = sales.id);
  update app.items set price = price + 5, tags = '{changed}' where tenant_id = $1 and sku > 'SKU-3';
  update app.tenants set company_name = 'wrong' where id = $1;
  insert into app.customers (tenant_id, name) values ($1, 'new after the backup');
  insert into app.loyalty (customer_id, points, at) select max(id), 1, now() from app.customers where tenant_id = $1;
  delete from app.repair_photos where repair_id in (select min(id) from app.repairs where tenant_id = $1);
  delete from app.notes where ctid in (select ctid from app.notes where tenant_id = $1 limit 1);
  update app.settings set raw = '{"b": 1}' where tenant_id = $1;
  insert into app.notifications (tenant_id, body) values ($1, 'new');`;

const damage = async (id: string): Promise<void> => {
  for (const statement of DAMAGE.split(";\n")) await sql(statement.replaceAll("$1", `'${id}'`));
};

const restore = (...args: string[]) => shop.site.json(["restore", "--reason", "test", ...args]);
const refused = async (...args: string[]) => {
  const ran = await shop.site.run("restore", "--reason", "test", ...args, "--json");
  return { code: ran.code, error: JSON.parse(ran.stdout).error };
};

describe("a replaced tenant", () => {
  let before: Awaited<ReturnType<typeof rowsOf>>;
  beforeEach(async () => {
    before = await rowsOf(sql, A);
    await shop.site.json(["backup", "tenant", "--tenant", A]);
    await damage(A);
  });

  test("is what was backed up, row by row, while everybody else goes on working", async () => {
    const writer = keepWriting(shop.server.url("shop"), OTHERS);
    const done = await restore("--tenant", A, "--confirm", A);
    expect(await writer.stop()).toBeGreaterThan(0);
    expect(await rowsOf(sql, A)).toEqual(before);
    expect(done).toMatchObject({ status: "completed", mode: "full", tenantIds: [A], target: "shop" });
    const items = done.tables.find(({ table }: { table: string }) => table === "app.items");
    expect(items).toMatchObject({ updated: 3, inserted: 0, deleted: 0, unchanged: 3 });
    expect(done.metadata.report.proof.written.map(({ table }: { table: string }) => table)).toContain(
      "app.sales",
    );
  });

  test("touches no row of anybody else, and fires no trigger", async () => {
    const others = await digestOfOthers(sql, A);
    const [audited] = await sql("select count(*)::text as many from app.audit_log");
    await restore("--tenant", A, "--confirm", A, "--prove", "full");
    expect(await digestOfOthers(sql, A)).toEqual(others);
    expect(await sql("select count(*)::text as many from app.audit_log")).toEqual([audited]);
    expect(await rowsOf(sql, A)).toEqual(before);
  });

  test("comes back by exactly the plan that the dry run showed, or not at all", async () => {
    const plan = await shop.site.json(["restore", "--tenant", A, "--dry-run"]);
    expect(plan.blockers).toEqual([]);
    expect(await rowsOf(sql, A)).not.toEqual(before);
    await sql(`update app.items set cost = cost + 1 where tenant_id = '${A}'`);
    const other = await refused("--tenant", A, "--confirm", A, "--expect-plan", plan.planHash);
    expect([other.code, other.error.code]).toEqual([1, "conflict"]);
    // a row that would be overwritten anyway is changed once more: that value was never looked at
    const seen = await shop.site.json(["restore", "--tenant", A, "--dry-run"]);
    await sql(`update app.items set cost = cost + 1 where tenant_id = '${A}'`);
    const newer = await refused("--tenant", A, "--confirm", A, "--expect-plan", seen.planHash);
    expect([newer.code, newer.error.code]).toEqual([1, "conflict"]);
    const now = await shop.site.json(["restore", "--tenant", A, "--dry-run"]);
    const done = await restore("--tenant", A, "--confirm", A, "--expect-plan", now.planHash);
    for (const table of done.tables) {
      const { conflicts: _, ...planned } = now.tables.find(
        ({ table: name }: { table: string }) => name === table.table,
      );
      expect(table).toEqual(planned);
    }
    expect(await rowsOf(sql, A)).toEqual(before);
  });

  test("needs its id typed, and leaves a backup of what was there", async () => {
    const unconfirmed = await refused("--tenant", A);
    expect([unconfirmed.code, unconfirmed.error.hint]).toEqual([13, `give --confirm ${A}`]);
    const damaged = await rowsOf(sql, A);
    const done = await restore("--tenant", A, "--confirm", A);
    const safety = done.metadata.safetyBackupId;
    await restore(safety, "--tenant", A, "--confirm", A);
    expect(await rowsOf(sql, A)).toEqual(damaged);
    await restore(done.backupId, "--tenant", A, "--confirm", A);
    expect(await rowsOf(sql, A)).toEqual(before);
  });
});

describe("a merged tenant", () => {
  test("gets back only what is gone, and is asked nothing", async () => {
    const before = await rowsOf(sql, B);
    await shop.site.json(["backup", "tenant", "--tenant", B]);
    await sql(
      `delete from app.repair_photos where repair_id in (select id from app.repairs where tenant_id = '${B}')`,
    );
    await sql(`update app.items set price = 99 where tenant_id = '${B}'`);
    const changed = await rowsOf(sql, B);
    const done = await restore("--tenant", B, "--mode", "merge");
    expect(await rowsOf(sql, B)).toEqual({ ...changed, repair_photos: before.repair_photos });
    expect(done.rowsRestored).toBe(before.repair_photos?.length);
    await restore(
      "--tenant",
      B,
      "--mode",
      "merge",
      "--update-existing",
      "--no-create-missing",
      "--confirm",
      B,
    );
    expect(await rowsOf(sql, B)).toEqual(before);
    await sql(`insert into app.notes values ('${B}', 'extra')`);
    await restore("--tenant", B, "--mode", "merge", "--delete-new", "--tables", "app.notes", "--confirm", B);
    expect(await rowsOf(sql, B)).toEqual(before);
  });
});

describe("a clone", () => {
  test("holds the same, under keys of its own", async () => {
    const id = tenantId(501);
    const original = await rowsOf(sql, B);
    await shop.site.json(["backup", "tenant", "--tenant", B]);
    const others = await digestOfOthers(sql, id);
    const done = await restore("--tenant", B, "--as-tenant", id);
    expect(await digestOfOthers(sql, id)).toEqual(others);
    const clone = await rowsOf(sql, id);
    for (const [table, rows] of Object.entries(original))
      expect([table, clone[table]?.length]).toEqual([table, rows.length]);
    const [linked] = await sql(
      `select count(*)::text as many from app.sale_items i join app.sales s on s.id = i.sale_id join app.items t on t.id = i.item_id
        where s.tenant_id = $1 and t.tenant_id = $1`,
      [id],
    );
    expect(Number(linked?.many)).toBe(original.sale_items?.length);
    expect(done.warnings.join("\n")).toContain("slug");
    const [secrets] = await sql("select count(token)::text as many from app.users where tenant_id = $1", [
      id,
    ]);
    expect(secrets?.many).toBe("0");
  });
});

describe("a restore of a tenant is refused", () => {
  test("when nobody has the id", async () => {
    const unknown = await refused("--tenant", tenantId(999));
    expect([unknown.code, unknown.error.code]).toEqual([10, "not_found"]);
  });

  test("when a unique value is somebody else's now, who is not named", async () => {
    const [victim] = await sql(`select min(email) as email from app.users where tenant_id = '${A}'`);
    await shop.site.json(["backup", "tenant", "--tenant", A]);
    await sql(
      `update app.users set email = email || '.old' where tenant_id = '${A}' and email = '${victim?.email}'`,
    );
    await sql(
      `update app.users set email = '${victim?.email}' where id = (select min(id) from app.users where tenant_id = '${OTHERS[0]}')`,
    );
    const blocked = await refused("--tenant", A, "--confirm", A);
    expect([blocked.code, blocked.error.code]).toEqual([14, "target_refused"]);
    expect(blocked.error.message).toContain(
      "1 row of app.users holds a value of users_email_key that another row holds now",
    );
    expect(blocked.error.message).not.toContain(OTHERS[0]);
  });
});
