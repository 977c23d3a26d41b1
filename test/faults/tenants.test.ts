import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { killAt, resume, runUntil, signalAt } from "../support/kill.js";
import { useShop } from "../support/shopSite.js";
import { makeSite } from "../support/site.js";
import { PAST_STEPS, TENANT_BACKUP_STEPS, TENANT_RESTORE_STEPS } from "../support/steps.js";
import {
  digestOfOthers,
  openQuery,
  type Rows,
  rowsOf,
  SHOP_TENANTS,
  tenantId,
} from "../support/tenantShop.js";

const shop = useShop({ tenants: 5, rows: 4 });
const { sql } = shop;
let good: Rows;
let saved: { id: string; copies: { storage: string; path: string }[] };
const A = tenantId(1);
const B = tenantId(2);

beforeAll(async () => {
  good = await rowsOf(sql, A);
  saved = await shop.site.json(["backup", "tenant", "--tenant", A]);
});

const RESTORE = (...more: string[]): string[] => [
  "restore",
  saved.id,
  "--tenant",
  A,
  "--confirm",
  A,
  "--reason",
  "test",
  ...more,
];
const refusalOf = async (
  args: string[],
): Promise<{ code: number | null; error: { code: string; message: string } }> => {
  const ran = await shop.site.run(...args, "--json");
  return { code: ran.code, error: JSON.parse(ran.stdout).error };
};
const damage = async (): Promise<void> => {
  await sql(
    `delete from app.repair_photos where repair_id in (select id from app.repairs where tenant_id = '${A}')`,
  );
  await sql(`update app.items set price = 77 where tenant_id = '${A}'`);
  await sql(`insert into app.notes values ('${A}', 'new')`);
};

describe("a backup of tenants killed at", () => {
  test.each(TENANT_BACKUP_STEPS)(
    "%s leaves whole backups or none, and the next run says so",
    async (step) => {
      await sql(`update app.items set cost = cost + 1`);
      await killAt(shop.site, step, ["backup", "tenant", "--all"]);
      await sql(`update app.items set cost = cost - 1`);
      const done = await shop.site.json(["backup", "tenant", "--all"]);
      expect(done.status).toBe("completed");
      const listed = await shop.site.json(["list", "--kind", "tenant", "--limit", "100"]);
      expect(listed.filter(({ status }: { status: string }) => status === "in_progress")).toEqual([]);
      for (const backup of listed
        .filter(({ status }: { status: string }) => status === "completed")
        .slice(0, 8)) {
        const plan = await shop.site.run(
          "restore",
          backup.id,
          "--tenant",
          backup.tenantId,
          "--dry-run",
          "--json",
        );
        expect([backup.label, plan.code]).toEqual([backup.label, 0]);
      }
    },
  );
});

describe("a tenant's restore killed at", () => {
  beforeEach(damage);

  test.each(TENANT_RESTORE_STEPS)("%s has done all of it or nothing, and can be run again", async (step) => {
    const damaged = await rowsOf(sql, A);
    const others = await digestOfOthers(sql, A);
    await killAt(shop.site, step, RESTORE());
    expect(await rowsOf(sql, A)).toEqual(step === "tenant-committed" ? good : damaged);
    expect(await shop.site.json(RESTORE())).toMatchObject({ status: "completed" });
    expect(await rowsOf(sql, A)).toEqual(good);
    expect(await digestOfOthers(sql, A)).toEqual(others);
  });

  test("by Ctrl-C in the middle is rolled back, and says so", async () => {
    const damaged = await rowsOf(sql, A);
    const ran = await signalAt(shop.site, "tenant-written", "SIGINT", RESTORE());
    expect(ran.code).toBe(130);
    expect(await rowsOf(sql, A)).toEqual(damaged);
    await shop.site.json(RESTORE());
  });
});

test.each(PAST_STEPS)(
  "a full backup opened for one tenant and killed at %s leaves no database behind",
  async (step) => {
    const { id } = await shop.site.json(["backup", "full", "--logical"]);
    const args = ["restore", id, "--tenant", A, "--confirm", A, "--reason", "test"];
    await killAt(shop.site, step, args);
    await damage();
    await shop.site.json(args);
    expect(await rowsOf(sql, A)).toEqual(good);
    expect(
      await query(shop.server.url(), "select datname from pg_database where datname like '%jbackup%'"),
    ).toEqual([]);
  },
);

describe("what happens to the tenant in the middle of its restore", () => {
  test("rows that its own users add wait for the end, or for the next one", async () => {
    await damage();
    const user = await openQuery(shop.server.url("shop"));
    try {
      const running = await runUntil(shop.site, "tenant-written", RESTORE());
      let isIn = false;
      const inserted = user
        .sql("insert into app.customers (tenant_id, name) values ($1, 'meanwhile')", [A])
        .then(() => {
          isIn = true;
        });
      await delay(500);
      expect(isIn).toBe(false);
      expect((await resume(running)).code).toBe(0);
      await inserted;
      const now = await rowsOf(sql, A);
      expect({ ...now, customers: now.customers?.filter((row) => !row.includes("meanwhile")) }).toEqual(good);
    } finally {
      await user.close();
      await sql("delete from app.customers where name = 'meanwhile'");
    }
  });
});

describe("an attack on another tenant", () => {
  beforeEach(damage);
  const folderOf = (storage: string): string =>
    join(shop.site.folder, storage, saved.copies.find((copy) => copy.storage === storage)?.path ?? "");

  test("by a manifest under another tenant's path is not believed", async () => {
    const other = await shop.site.json(["backup", "tenant", "--tenant", B]);
    const before = await digestOfOthers(sql, A);
    for (const { storage, path } of other.copies)
      writeFileSync(
        join(shop.site.folder, storage, path, "manifest.json"),
        readFileSync(join(folderOf(storage), "manifest.json")),
      );
    const refused = await refusalOf(["restore", other.id, "--tenant", B, "--confirm", B, "--reason", "test"]);
    expect([refused.code, refused.error.code]).toEqual([4, "manifest_foreign"]);
    expect(await digestOfOthers(sql, A)).toEqual(before);
  });

  test("by an object of another tenant's backup does not open", async () => {
    await sql(`update app.items set price = price + 1 where tenant_id = '${B}'`);
    const other = await shop.site.json(["backup", "tenant", "--tenant", B, "--note", "to be spoiled"]);
    for (const { storage, path } of other.copies)
      writeFileSync(
        join(shop.site.folder, storage, path, "contents.jbk"),
        readFileSync(join(folderOf(storage), "contents.jbk")),
      );
    const refused = await refusalOf(["restore", other.id, "--tenant", B, "--confirm", B, "--reason", "test"]);
    expect([refused.code, refused.error.code]).toEqual([4, "object_corrupt"]);
  });

  test("by naming the wrong backup is a mistake, told as one", async () => {
    const refused = await refusalOf(["restore", saved.id, "--tenant", B, "--confirm", B, "--reason", "test"]);
    expect([refused.code, refused.error.message]).toEqual([
      2,
      expect.stringContaining(`is a backup of tenant ${A}, not of ${B}`),
    ]);
  });

  test("by a cascade that reaches out is stopped by the server's own count", async () => {
    await sql(
      `create table app.pins (id int primary key, note_of bigint references app.notifications on delete cascade, owner text)`,
    );
    await sql(`insert into app.notifications (tenant_id, body) values ('${A}', 'after the backup')`);
    await sql(
      `insert into app.pins select 1, max(id), 'everybody' from app.notifications where tenant_id = '${A}'`,
    );
    const own = await makeSite({
      here: true,
      url: shop.server.url("shop"),
      storages: () =>
        ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(shop.site.folder, name)}}`),
      more: [
        "keys:",
        `  recipients: [${readFileSync(join(shop.site.home, "keys/recipient"), "utf8").trim()}]`,
        `  signing: {file: ${join(shop.site.home, "keys/signing")}}`,
        `  identity: {file: ${join(shop.site.home, "keys/identity")}}`,
        ...SHOP_TENANTS.map((line) => line.replace("[app.audit_log]", "[app.audit_log, app.pins]")),
      ],
    });
    try {
      const ran = await own.run(...RESTORE(), "--json");
      const { error } = JSON.parse(ran.stdout);
      expect([ran.code, error.code]).toEqual([14, "target_refused"]);
      expect(error.message).toContain(
        "1 row of app.pins that is not restored refers by pins_note_of_fkey to rows of app.notifications that would go",
      );
      expect(await sql("select count(*)::text as many from app.pins")).toEqual([{ many: "1" }]);
    } finally {
      await own.remove();
      await sql("drop table app.pins");
    }
  });

  test("by a trigger that always fires is stopped by the server's own count", async () => {
    await sql(
      `create function app.evil() returns trigger language plpgsql as $$ begin update app.suppliers set name = 'evil' where tenant_id = '${B}'; return new; end $$`,
    );
    await sql(
      "create trigger evil after update on app.items for each row execute function app.evil(); alter table app.items enable always trigger evil",
    );
    const before = await digestOfOthers(sql, A);
    const refused = await refusalOf(RESTORE());
    await sql("drop trigger evil on app.items; drop function app.evil()");
    expect([refused.code, refused.error.code]).toEqual([4, "verification_failed"]);
    expect(refused.error.message).toMatch(
      /the server counted other rows than the plan has: app\.suppliers: 8 updated where 0 were meant/,
    );
    expect(await digestOfOthers(sql, A)).toEqual(before);
  });
});

describe("a schema that moved on", () => {
  beforeEach(damage);
  test.each([
    ["alter table app.notes add kind text", "alter table app.notes drop kind", 0, null],
    ["alter table app.notes add kind text not null default 'x'", "alter table app.notes drop kind", 0, null],
    [
      "alter table app.repair_photos add kind text; alter table app.repair_photos alter kind set not null",
      "alter table app.repair_photos drop kind",
      14,
      "app.repair_photos.kind must not be null and has no default, but the backup does not know it",
    ],
    [
      "alter table app.items rename sku to code",
      "alter table app.items rename code to sku",
      14,
      "app.items.sku holds values in the backup, but the live table has no such column",
    ],
    [
      "alter table app.items alter sku type varchar(99)",
      "alter table app.items alter sku type text",
      14,
      "app.items.sku is text in the backup and character varying(99) now",
    ],
    [
      "alter table app.notes rename to remarks",
      "alter table app.remarks rename to notes",
      14,
      "app.notes held 2 rows, and is not there any more",
    ],
  ])("%s", async (change, undo, code, blocker) => {
    await sql(`delete from app.repair_photos where repair_id in (select id from app.repairs)`).catch(
      () => undefined,
    );
    await sql(change);
    try {
      const ran = await shop.site.run(...RESTORE(), "--json");
      expect(ran.code).toBe(code);
      if (blocker === null) {
        await sql(undo);
        await shop.site.json(RESTORE());
        expect(await rowsOf(sql, A)).toEqual(good);
        await sql(change);
      } else expect(JSON.parse(ran.stdout).error.details.blockers).toContain(blocker);
    } finally {
      await sql(undo);
    }
  });
});

test("nothing of this is left in the storages half", () => {
  for (const storage of ["one", "two"]) {
    const files = readdirSync(join(shop.site.folder, storage), { recursive: true, encoding: "utf8" });
    expect(files.filter((name) => name.includes("~jbackup"))).toEqual([]);
  }
});
