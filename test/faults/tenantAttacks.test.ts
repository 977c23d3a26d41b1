import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Secret } from "../../src/domain/secret.js";
import { canonicalJson, signerOf, verifyDetached } from "../../src/format/format.js";
import { query } from "../support/awkward.js";
import { forgeBackup, type Texts } from "../support/forged.js";
import { resume, runUntil } from "../support/kill.js";
import { useShop } from "../support/shopSite.js";
import { makeSite } from "../support/site.js";
import {
  digestOfOthers,
  openQuery,
  type Rows,
  rowsOf,
  SHOP_TENANTS,
  tenantId,
} from "../support/tenantShop.js";

const shop = useShop({ tenants: 7, rows: 4 });
const { sql } = shop;
const A = tenantId(1);
const B = tenantId(2);
let good: Rows;
let saved: string;
let others: Record<string, string>;

beforeAll(async () => {
  good = await rowsOf(sql, A);
  saved = (await shop.site.json(["backup", "tenant", "--tenant", A])).id;
});

const restore = (id: string, ...more: string[]): string[] => [
  ...["restore", id, "--tenant", A, "--confirm", A, "--reason", "test", "--no-safety-backup", ...more],
];
async function refusalOf(
  args: string[],
): Promise<{ code: number | null; error: { code: string; message: string } }> {
  const ran = await shop.site.run(...args, "--json");
  return { code: ran.code, error: JSON.parse(ran.stdout).error };
}
const damage = (): Promise<unknown> =>
  sql(
    `update app.items set price = 77 where tenant_id = '${A}'; insert into app.notes values ('${A}', 'new')`,
  );

beforeEach(async () => {
  await damage();
  others = await digestOfOthers(sql, A);
});
afterEach(async () => {
  expect(await digestOfOthers(sql, A)).toEqual(others);
});

describe("a row slipped into a backup that is sealed and signed as it should be", () => {
  const line = (texts: Texts, table: string): string => `${texts[table]?.split("\n")[0]}`;
  const idOf = async (table: string, tenant: string): Promise<string> => {
    const [row] = await sql(`select min(id)::text as id from app.${table} where tenant_id = $1`, [tenant]);
    return row?.id ?? "";
  };

  test.each<[string, (texts: Texts, ids: Record<string, string>) => void, string]>([
    [
      "with another tenant's id",
      (texts) => {
        texts.notes += `${B}\tplanted\n`;
      },
      `1 row of app.notes in the backup of tenant ${A} belongs to somebody else`,
    ],
    [
      "with no tenant's id",
      (texts) => {
        texts.users += "999999\t\\N\tplanted@shop\t\\N\n";
      },
      `1 row of app.users in the backup of tenant ${A} belongs to somebody else`,
    ],
    [
      "that is another tenant itself",
      (texts) => {
        texts.tenants += line(texts, "tenants").replace(A, B).replace("shop-1", "planted");
        texts.tenants += "\n";
      },
      `1 row of app.tenants in the backup of tenant ${A} belongs to somebody else`,
    ],
    [
      "as a child of another tenant's row",
      (texts, { customers = "" }) => {
        texts.loyalty += `999999\t${customers}\t1000000\t2026-01-01 00:00:00+00\n`;
      },
      `1 row of app.loyalty in the backup of tenant ${A} belongs to somebody else`,
    ],
    [
      "as a child of nobody's row",
      (texts) => {
        texts.loyalty += "999999\t888888\t1000000\t2026-01-01 00:00:00+00\n";
      },
      `1 row of app.loyalty in the backup of tenant ${A} belongs to somebody else`,
    ],
  ])("%s is found, whatever the digests say", async (_what, change, message) => {
    const ids = { customers: await idOf("customers", B) };
    const forged = await forgeBackup(shop.site, saved, (texts) => change(texts, ids));
    const damaged = await rowsOf(sql, A);
    const refused = await refusalOf(restore(forged));
    expect(refused).toMatchObject({ code: 4, error: { code: "verification_failed", message } });
    expect(await rowsOf(sql, A)).toEqual(damaged);
  });

  test("under a key that is another tenant's overwrites nothing", async () => {
    const key = await idOf("customers", B);
    const forged = await forgeBackup(shop.site, saved, (texts) => {
      texts.customers += `${key}\t${A}\tplanted\t\\N\n`;
    });
    const refused = await refusalOf(restore(forged));
    expect([refused.code, refused.error.code]).toEqual([14, "target_refused"]);
    expect(refused.error.message).toContain(
      "1 row of app.customers has a key (customers_pkey) that is somebody else's now",
    );
  });

  test("in another order than the key's is not what the digest is of", async () => {
    const forged = await forgeBackup(shop.site, saved, (texts) => {
      texts.customers = `${texts.customers?.trimEnd().split("\n").toReversed().join("\n")}\n`;
    });
    const refused = await refusalOf(restore(forged));
    expect([refused.code, refused.error.message]).toEqual([
      4,
      expect.stringMatching(/^the tenant would not be what was backed up: app\.customers has 4 rows/),
    ]);
  });
});

describe("what reaches out of the tenant while it is written", () => {
  const evil = (body: string): string =>
    `create function app.evil() returns trigger language plpgsql as $$ begin ${body} return null; end $$;
     create trigger evil after update on app.items for each statement execute function app.evil();
     alter table app.items enable always trigger evil`;
  afterEach(async () => {
    await sql("drop trigger if exists evil on app.items; drop function if exists app.evil()");
  });

  test("a trigger that is asked to fire, and writes to another tenant", async () => {
    await sql(evil(`update app.suppliers set name = 'evil' where tenant_id = '${B}';`));
    const refused = await refusalOf(restore(saved, "--triggers", "fire"));
    expect(refused).toMatchObject({
      code: 4,
      error: { message: "rows were written that are not the tenant's: 2 rows of app.suppliers" },
    });
  });

  test("a trigger that hides its writes from the server's counters is seen by --prove full", async () => {
    await sql(
      evil(`perform set_config('track_counts', 'off', true);
        execute 'delete from app.repair_photos where repair_id in (select id from app.repairs where tenant_id = ''${B}'')';
        perform set_config('track_counts', 'on', true);`),
    );
    const damaged = await rowsOf(sql, A);
    const refused = await refusalOf(restore(saved, "--prove", "full"));
    expect(refused).toMatchObject({
      code: 4,
      error: {
        code: "verification_failed",
        message: "rows that are not the tenant's would be changed: app.repair_photos",
      },
    });
    expect(await rowsOf(sql, A)).toEqual(damaged);
  });

  test("a row of another tenant that leans on one that would go", async () => {
    await sql(`insert into app.categories (tenant_id, "Display Name") values ('${A}', 'new')`);
    await sql(
      `update app.categories set parent = (select max(id) from app.categories where tenant_id = '${A}')
        where id = (select max(id) from app.categories where tenant_id = '${B}')`,
    );
    others = await digestOfOthers(sql, A);
    const refused = await refusalOf(restore(saved));
    expect([refused.code, refused.error.code]).toEqual([14, "target_refused"]);
    expect(refused.error.message).toContain(
      "1 row of app.categories that is not restored refers by categories_parent_fkey to rows of app.categories that would go",
    );
    await sql(`update app.categories set parent = null where tenant_id = '${B}' and parent is not null`);
    others = await digestOfOthers(sql, A);
  });
});

describe("rows that change between the plan and the locks", () => {
  test("are replaced by what the backup holds, if that was agreed to", async () => {
    const running = await runUntil(shop.site, "tenant-saved", restore(saved));
    await sql(`insert into app.customers (tenant_id, name) values ('${A}', 'in between')`);
    expect((await resume(running)).code).toBe(0);
    expect(await rowsOf(sql, A)).toEqual(good);
  });

  test("are not overwritten by a restore that had nothing to overwrite when it asked", async () => {
    await shop.site.json(restore(saved));
    const unasked = ["restore", saved, "--tenant", A, "--reason", "test", "--no-safety-backup", "--json"];
    const running = await runUntil(shop.site, "tenant-saved", unasked);
    await damage();
    const damaged = await rowsOf(sql, A);
    const ran = await resume(running);
    const { error } = JSON.parse(ran.stdout);
    expect([ran.code, error.code, error.hint]).toEqual([
      13,
      "needs_confirmation",
      `nothing was changed; give --confirm ${A}`,
    ]);
    expect(error.message).toBe(
      `rows of tenant ${A} were changed meanwhile: 5 would be overwritten now, and none when the plan was made`,
    );
    expect(await rowsOf(sql, A)).toEqual(damaged);
  });
});

describe("an id that is hard to carry", () => {
  const IDS = [`x'; drop table odd.notes; --`, `o"brien`, "../../etc", "a\\tb\\N %s ✓"];

  test("names one tenant and nothing else", async () => {
    await query(shop.server.url(), "create database odd");
    const odd = await openQuery(shop.server.url("odd"));
    await odd.sql(`create schema odd; create table odd.tenants (id text primary key);
      create table odd.notes (id serial primary key, tenant_id text not null references odd.tenants, body text)`);
    for (const id of IDS) {
      await odd.sql("insert into odd.tenants values ($1)", [id]);
      await odd.sql(
        "insert into odd.notes (tenant_id, body) select $1, 'note ' || n from generate_series(1, 3) n",
        [id],
      );
    }
    const site = await makeSite({ url: shop.server.url("odd"), more: ["tenants: {table: odd.tenants}"] });
    try {
      const all = await site.json(["backup", "tenant", "--all"]);
      expect(all.backups.map(({ tenantId: id }: { tenantId: string }) => id).sort()).toEqual([...IDS].sort());
      const notes = (): Promise<unknown> => odd.sql("select n::text as row from odd.notes n order by 1");
      const before = await notes();
      for (const id of IDS) {
        await odd.sql("update odd.notes set body = 'changed' where tenant_id = $1", [id]);
        const done = await site.json(["restore", "--tenant", id, "--confirm", id, "--reason", "odd"]);
        expect(done.tenantIds).toEqual([id]);
        expect(await notes()).toEqual(before);
      }
      await site.json([
        "restore",
        "--tenant",
        IDS[0] ?? "",
        "--as-tenant",
        "'); delete from odd.notes; --",
        "--reason",
        "odd",
      ]);
      expect((await odd.sql("select count(*)::text as many from odd.notes"))[0]?.many).toBe("15");
    } finally {
      await odd.close();
      await site.remove();
    }
  });

  test("is refused as what it is where no tenant can have it", async () => {
    const unknown = await refusalOf([
      "restore",
      "--tenant",
      "x' or '1' = '1",
      "--confirm",
      A,
      "--reason",
      "test",
    ]);
    expect([unknown.code, unknown.error.code]).toEqual([10, "not_found"]);
    const clone = await refusalOf([
      "restore",
      saved,
      "--tenant",
      A,
      "--as-tenant",
      "'; drop table app.notes; --",
      "--reason",
      "test",
    ]);
    expect([clone.code, clone.error.message]).toEqual([
      2,
      `--as-tenant "'; drop table app.notes; --" is no id that a tenant can have: it must be uuid`,
    ]);
  });
});

describe("what would empty or rewrite a table under an export", () => {
  test.each([
    [
      "truncate app.notes",
      "insert into app.notes select id, 'twice' from app.tenants, generate_series(1, 2)",
    ],
    ["alter table app.notes alter body type varchar(200)", "alter table app.notes alter body type text"],
  ])("%s waits until the rows are read", async (change, undo) => {
    const [before] = await sql(`select count(*)::text as many from app.notes where tenant_id = '${A}'`);
    const other = await openQuery(shop.server.url("shop"));
    try {
      const running = await runUntil(shop.site, "tenants-snapshot", [
        "backup",
        "tenant",
        "--tenant",
        A,
        "--json",
      ]);
      let isThrough = false;
      const changed = other.sql(change).then(() => {
        isThrough = true;
      });
      await delay(500);
      expect(isThrough).toBe(false);
      const ran = await resume(running);
      await changed;
      await sql(undo);
      expect(ran.code).toBe(0);
      const plan = await shop.site.json([
        "restore",
        JSON.parse(ran.stdout).id,
        "--tenant",
        A,
        "--dry-run",
        "--tables",
        "app.notes",
      ]);
      const [after] = await sql(`select count(*)::text as many from app.notes where tenant_id = '${A}'`);
      const [notes] = plan.tables;
      expect(notes.unchanged + notes.inserted).toBe(Number(before?.many));
      expect(notes.unchanged + notes.deleted).toBe(Number(after?.many));
    } finally {
      await other.close();
    }
  });
});

test("the report of a restore is signed, and a record that was changed afterwards is not believed", async () => {
  const done = await shop.site.json(restore(saved));
  const { report, signature } = done.metadata;
  const signer = signerOf(new Secret(readFileSync(join(shop.site.home, "keys/signing"), "utf8").trim()));
  const bytes = Buffer.from(canonicalJson(report));
  verifyDetached(bytes, signature, { signers: [signer], domain: "tenant restore" });
  expect(() => verifyDetached(bytes, signature, { signers: [signer], domain: "manifest" })).toThrow(
    "is not signed by a trusted signer, or was changed",
  );
  expect(report).toMatchObject({ tenantId: A, planHash: done.metadata.planHash, tables: expect.any(Array) });

  const shown = await shop.site.json(["restores", done.id.slice(0, 18)]);
  expect(shown).toMatchObject({ id: done.id, signature: { signer, isGenuine: true } });
  const catalog = new DatabaseSync(join(shop.site.home, "catalog.db"));
  const rewrite = (from: string, to: string): void => {
    const { changes } = catalog
      .prepare("update restores set metadata = replace(metadata, ?, ?) where id = ?")
      .run(from, to, done.id);
    expect(changes).toBe(1);
  };
  rewrite(`"tenantId":"${A}"`, `"tenantId":"${B}"`);
  const ran = await shop.site.run("restores", done.id);
  expect(ran.code).toBe(4);
  expect(ran.stdout).toContain(`signature NOT GOOD: this is not what ${signer} signed`);
  catalog.close();
});

test("a suspended tenant is restored when it is named, and one that is named twice is restored once", async () => {
  const suspended = tenantId(7);
  await shop.site.json(["backup", "tenant", "--tenant", suspended]);
  const before = await rowsOf(sql, suspended);
  await sql(`update app.notes set body = 'changed' where tenant_id = '${suspended}'`);
  const done = await shop.site.json([
    "restore",
    "--tenant",
    suspended,
    suspended,
    "--confirm",
    suspended,
    "--reason",
    "test",
  ]);
  expect(done.tenantIds).toEqual([suspended]);
  expect(await rowsOf(sql, suspended)).toEqual(before);
});

test("policies that are demanded where a table has none are missed before anything is read", async () => {
  const strict = await shop.siteWith([...SHOP_TENANTS, "  isolation: rls"]);
  await sql("alter table app.notes disable row level security");
  try {
    const ran = await strict.run("backup", "tenant", "--tenant", A, "--json");
    const { error } = JSON.parse(ran.stdout);
    expect([ran.code, error.code, error.message]).toEqual([
      2,
      "config_invalid",
      "tenants.isolation is rls, but no row-level security is on for app.notes",
    ]);
  } finally {
    await sql("alter table app.notes enable row level security");
    await strict.remove();
  }
});
