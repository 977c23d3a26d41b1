import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import type { TenantFacts } from "../../src/domain/tenantBackup.js";
import { findBackup } from "../../src/engine/findBackup.js";
import { openBackup } from "../../src/engine/openBackup.js";
import { query } from "../support/awkward.js";
import { openTestSite } from "../support/openedSite.js";
import { expectRefused } from "../support/refusal.js";
import { useShop } from "../support/shopSite.js";
import { makeSite, type TestSite } from "../support/site.js";
import {
  keepWriting,
  OF_TENANT,
  openQuery,
  rowsOf,
  SHOP_TENANTS,
  TENANT_SHOP_SQL,
  tenantId,
} from "../support/tenantShop.js";

const shop = useShop({ tenants: 20, rows: 6 });
const { sql } = shop;
const places: string[] = [];
const RECOVER = fileURLToPath(new URL("../../bin/recover.mjs", import.meta.url));

afterAll(() => {
  for (const place of places) rmSync(place, { recursive: true, force: true });
});

/** The sealed facts and texts of a backup, opened by the product's own reader. */
async function contentOf(
  of: TestSite,
  id: string,
): Promise<{ facts: TenantFacts; text: Record<string, string> }> {
  const opened = await openTestSite(of);
  try {
    const backup = await openBackup(opened, await findBackup(opened, id));
    const facts = backup.contents.detail.tenant as TenantFacts;
    const text: Record<string, string> = {};
    for (const table of facts.tables) {
      const chunks: Buffer[] = [];
      for await (const chunk of backup.read(backup.entry(table.entry))) chunks.push(chunk);
      text[table.name] = Buffer.concat(chunks).toString("utf8");
    }
    return { facts, text };
  } finally {
    await opened.close();
  }
}

describe("a backup of all tenants", () => {
  test("holds every row of every active one, each under its own key, and nothing else", async () => {
    const done = await shop.site.json(["backup", "tenant", "--all"]);
    expect(done).toMatchObject({ status: "completed", failed: [] });
    const active = Array.from({ length: 20 }, (_, nth) => nth + 1).filter((nth) => nth % 7 !== 0);
    expect(done.backups.map((backup: { tenantId: string }) => backup.tenantId)).toEqual(active.map(tenantId));
    for (const nth of [1, 13]) {
      const backup = done.backups.find((one: { tenantId: string }) => one.tenantId === tenantId(nth));
      const { facts, text } = await contentOf(shop.site, backup.id);
      for (const [table, condition] of Object.entries(OF_TENANT)) {
        const of = facts.tables.find(({ name }) => name === table);
        const columns = of?.columns.map(({ name }) => `t."${name}"`).join(", ");
        const rows = await sql(`select ${columns} from app.${table} t where ${condition}`, [tenantId(nth)]);
        expect([table, of?.rows]).toEqual([table, rows.length]);
        expect(of?.sha256).toBe(
          createHash("sha256")
            .update(text[table] ?? "")
            .digest("hex"),
        );
      }
      expect(text.countries?.split("\n").length).toBe(2); // the one country that it refers to, and the end
      expect(text.currencies).not.toContain("XTS");
      expect(facts).toMatchObject({ id: tenantId(nth), source: { kind: "live" }, database: "shop" });
    }
  });

  test("has one object and one manifest a tenant, under its id", () => {
    const folder = join(shop.site.folder, "one", "backups", "tenant", tenantId(1));
    const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    expect(files.map(({ name }) => name).sort()).toEqual(["contents.jbk", "manifest.json"]);
  });

  test("refers to the objects of the last one where nothing changed", async () => {
    await sql(`update app.items set price = price + 1 where tenant_id = '${tenantId(3)}'`);
    const done = await shop.site.json(["backup", "tenant", "--all"]);
    const anew = done.backups.filter(
      ({ metadata }: { metadata: { sameAs?: string } }) => metadata.sameAs === undefined,
    );
    expect(anew.map((backup: { tenantId: string }) => backup.tenantId)).toEqual([tenantId(3)]);
    const same = done.backups.find((backup: { tenantId: string }) => backup.tenantId === tenantId(4));
    const first = await contentOf(shop.site, same.metadata.sameAs);
    expect((await contentOf(shop.site, same.id)).text).toEqual(first.text);
    const again = await shop.site.json(["backup", "tenant", "--tenant", tenantId(4)]);
    expect(again.metadata.sameAs).toBe(same.metadata.sameAs);
    // where the older objects are not whole any more, everything is stored anew
    const folder = join(shop.site.folder, "two", "backups", "tenant", tenantId(4));
    renameSync(folder, `${folder}-away`);
    await shop.site.run("catalog", "rebuild");
    const after = await shop.site.json(["backup", "tenant", "--tenant", tenantId(4)]);
    expect(after.metadata.sameAs).toBeUndefined();
  });

  test("is of one moment, whatever is written meanwhile", async () => {
    const writer = keepWriting(shop.server.url("shop"), [tenantId(1), tenantId(2), tenantId(3)]);
    const done = await shop.site.json(["backup", "tenant", "--all"]);
    expect(await writer.stop()).toBeGreaterThan(0);
    const moments = new Set<string>();
    let sales = 0;
    let customers = 0;
    for (const { id } of done.backups.slice(0, 3)) {
      const { facts } = await contentOf(shop.site, id);
      moments.add(facts.lsn);
      const rows = (name: string): number => facts.tables.find((table) => table.name === name)?.rows ?? 0;
      sales += rows("sales") - 6;
      customers += rows("customers") - 6;
    }
    expect(moments.size).toBe(1);
    expect(sales).toBe(customers); // the writer adds one of each in every transaction
  });
});

describe("a backup of named tenants", () => {
  test("takes a suspended one, names twice as once, and knows who is meant", async () => {
    const one = await shop.site.json(["backup", "tenant", "--tenant", tenantId(7), "--tenant", tenantId(7)]);
    expect(one).toMatchObject({
      kind: "tenant",
      method: "logical",
      tenantId: tenantId(7),
      status: "completed",
    });
    const ran = await shop.site.run("backup", "tenant", "--tenant", tenantId(1).replace(/1$/, "x"), "--json");
    expect(ran.code).toBe(10);
    expect(JSON.parse(ran.stdout).error.hint).toMatch(/^did you mean 00000000-0000-4000-8000-0000000000/);
  });

  test.each([["'; drop table app.items; --"], ["../../etc"], ["\u0000"], ["x".repeat(5000)]])(
    "an id that no tenant has is only an id",
    async (id) => {
      const ran = await shop.site.run("backup", "tenant", "--tenant", id.replace("\u0000", "\\0"), "--json");
      expect(ran.code).toBe(10);
      expect((await rowsOf(sql, tenantId(1))).items?.length).toBeGreaterThan(0);
    },
  );

  test("is no backup of all of them, well or failed; and who mistypes an id has failed nothing", async () => {
    const place = mkdtempSync(join(tmpdir(), "jbackup-hook-"));
    places.push(place);
    const trouble = join(place, "trouble");
    const site = await shop.siteWith([
      ...SHOP_TENANTS,
      'schedule: {tenant: "0 3 * * 0"}',
      `hooks: {beforeBackup: ['test ! -e ${trouble}'], onFailure: ['exit 0']}`,
    ]);
    const opened = await openTestSite(site);
    const runs = async () =>
      (await opened.catalog.runs({ job: "backup-tenant" })).map(({ status, metadata }) => [
        status,
        metadata.scope,
      ]);
    const job = async () =>
      (await site.json(["status"])).jobs.find(({ name }: { name: string }) => name === "tenant");
    const alerts = async () =>
      (await site.json(["alerts"])).map(({ fingerprint }: { fingerprint: string }) => fingerprint);
    try {
      const mistyped = await site.run("backup", "tenant", "--tenant", "nobody");
      expect([mistyped.code, mistyped.stderr]).toEqual([10, expect.not.stringContaining("hooks.")]);
      expect([await runs(), await alerts()]).toEqual([[], []]);

      await site.json(["backup", "tenant", "--tenant", tenantId(1)]);
      expect(await job()).toMatchObject({ lastRun: null, lastGoodAt: null });
      expect((await site.json(["schedule", "show"])).jobs[0].lastRun).toBeNull();
      writeFileSync(trouble, "");
      const [partly, all] = [tenantId(2), "--all"];
      for (const what of [["--tenant", partly], [all]])
        expect((await site.run("backup", "tenant", ...what)).code).not.toBe(0);
      expect((await alerts()).sort()).toEqual(["failed:backup-tenant", `failed:backup-tenant:${partly}`]);
      expect(await job()).toMatchObject({ lastRun: { status: "failed" } });
      rmSync(trouble);

      // another tenant's backup mends nothing, and this one's only its own
      await site.json(["backup", "tenant", "--tenant", tenantId(3)]);
      expect(await alerts()).toHaveLength(2);
      await site.json(["backup", "tenant", "--tenant", partly]);
      expect(await alerts()).toEqual(["failed:backup-tenant"]);
      expect(await job()).toMatchObject({ lastRun: { status: "failed" } });
      await site.json(["backup", "tenant", "--all"]);
      expect(await alerts()).toEqual([]);
      expect(await job()).toMatchObject({ lastRun: { status: "succeeded" } });
      expect(await runs()).toEqual([
        ["succeeded", "whole"],
        ["succeeded", "part"],
        ["succeeded", "part"],
        ["failed", "whole"],
        ["failed", "part"],
        ["succeeded", "part"],
      ]);
    } finally {
      await opened.close();
      await site.remove();
    }
  });

  test("fails when a tenant has suddenly shrunk, unless that is meant", async () => {
    await shop.site.json(["backup", "tenant", "--tenant", tenantId(5)]);
    await sql("begin");
    await sql(`set local session_replication_role = replica`);
    for (const table of ["sales", "items", "customers", "repairs", "users", "branches"])
      await sql(`delete from app.${table} where tenant_id = '${tenantId(5)}'`);
    await sql("commit");
    const ran = await shop.site.run("backup", "tenant", "--tenant", tenantId(5), "--json");
    expect([ran.code, JSON.parse(ran.stdout).error.code]).toEqual([4, "verification_failed"]);
    const all = await shop.site.json(["backup", "tenant", "--all"], [3]);
    expect(all).toMatchObject({ status: "partial", failed: [{ tenantId: tenantId(5) }] });
    expect(all.backups.length).toBe(17);
    const [alert] = await shop.site.json(["alerts"]);
    expect(alert).toMatchObject({ type: "BACKUP_FAILURE", status: "active" });
    await shop.site.json(["backup", "tenant", "--tenant", tenantId(5), "--accept-shrunken"]);
    expect(await shop.site.json(["backup", "tenant", "--all"])).toMatchObject({ status: "completed" });
  });

  test("loads with psql alone, after recover.mjs opened it; also where it only refers to an older one", async () => {
    const id = tenantId(9);
    await shop.site.json(["backup", "tenant", "--tenant", id]);
    const { copies, metadata } = await shop.site.json(["backup", "tenant", "--tenant", id]);
    expect(metadata.sameAs).toBeDefined();
    const folder = mkdtempSync(join(tmpdir(), "jbackup-tenant-"));
    places.push(folder);
    const from = join(shop.site.folder, copies[0].storage, copies[0].path);
    const { signature } = JSON.parse(readFileSync(join(from, "manifest.json"), "utf8"));
    const keys = ["--identity", join(shop.site.home, "keys/identity"), "--signer", signature.signer];
    execFileSync(process.execPath, [RECOVER, "open", from, ...keys, "--out", join(folder, "files")], {
      stdio: "pipe",
    });
    await query(shop.server.url(), "create database empty_shop");
    const empty = await openQuery(shop.server.url("empty_shop"));
    try {
      await empty.sql(`${TENANT_SHOP_SQL} delete from app.countries; delete from app.currencies;`);
      const psql = [
        "--set",
        "ON_ERROR_STOP=1",
        "--single-transaction",
        "--file",
        "load.sql",
        shop.server.url("empty_shop"),
      ];
      execFileSync(join(shop.server.binDirectory, "psql"), psql, {
        cwd: join(folder, "files"),
        stdio: "pipe",
      });
      expect(await rowsOf(empty.sql, id)).toEqual(await rowsOf(sql, id));
      await empty.sql("insert into app.customers (tenant_id, name) values ($1, 'next')", [id]);
      expect((await empty.sql("select count(*)::text as many from app.countries"))[0]?.many).toBe("1");
    } finally {
      await empty.close();
    }
  });
});

describe("row-level security as the second lock", () => {
  const RLS = [...SHOP_TENANTS, "  isolation: rls"];

  test("agrees with what is backed up, or fails the tenant that it hides rows of or shows too much", async () => {
    const strict = await shop.siteWith(RLS);
    try {
      expect(await strict.json(["backup", "tenant", "--tenant", tenantId(2)])).toMatchObject({
        status: "completed",
      });
      for (const [policy, word] of [
        ["create policy odd on app.suppliers as restrictive using (name is not null)", "hide"],
        [`create policy odd on app.suppliers using (tenant_id = '${tenantId(3)}')`, "show"],
      ]) {
        await sql(policy ?? "");
        const ran = await strict.run("backup", "tenant", "--tenant", tenantId(2), "--json");
        await sql("drop policy odd on app.suppliers");
        expect(ran.code).toBe(4);
        expect(JSON.parse(ran.stdout).error.message).toMatch(
          new RegExp(`app\\.suppliers show tenant .* they ${word} too much$`),
        );
      }
    } finally {
      await strict.remove();
    }
  });

  test.each([
    [["  isolation: rls"], ["  role: shop_app"], /the role or the setting is missing/],
    [
      ["  isolation: rls", "  role: postgres"],
      ["  role: shop_app"],
      /tenants\.role postgres is not bound by the policies/,
    ],
  ])("is refused where it would say nothing", async (add, without, message) => {
    const other = await shop.siteWith([...SHOP_TENANTS.filter((line) => !without.includes(line)), ...add]);
    try {
      const ran = await other.run("backup", "tenant", "--all", "--json");
      expect([ran.code, JSON.parse(ran.stdout).error.message]).toEqual([2, expect.stringMatching(message)]);
    } finally {
      await other.remove();
    }
  });

  test("a role that policies bind cannot back up at all", async () => {
    await query(shop.server.url(), "create role blind login");
    await sql("grant usage on schema app to blind; grant select on all tables in schema app to blind");
    const other = await makeSite({
      here: true,
      url: shop.server.url("shop").replace("postgres@", "blind@"),
      more: SHOP_TENANTS,
    });
    try {
      const ran = await other.run("backup", "tenant", "--all", "--json");
      const { error } = JSON.parse(ran.stdout);
      expect([ran.code, error.code]).toEqual([1, "postgres_denied"]);
      expect(error.message).toMatch(/^row-level security hides rows of .* from user "blind"$/);
    } finally {
      await other.remove();
    }
  });
});

test("a backup of tenants that is wanted later is refused at once when there is no such tenant", async () => {
  const later = (...ids: string[]) => ["backup", "tenant", "--at", "1h", "--tenant", ...ids];
  await expectRefused(shop.site, later(tenantId(1), "nope"), {
    exit: 10,
    message: 'no tenant has the id "nope"',
    hint: "jbackup tenants list shows the ids",
  });
  expect((await shop.site.json(["schedule", "show"])).requests).toEqual([]);
  const stored = await shop.site.json(later(tenantId(1)));
  await shop.site.json(["schedule", "cancel", stored.id]);
});

describe("a tenant's data for its owner", () => {
  test("is CSV with a header, which PostgreSQL reads back as it was", async () => {
    const id = tenantId(11);
    await shop.site.json(["backup", "tenant", "--tenant", id]);
    const folder = mkdtempSync(join(tmpdir(), "jbackup-export-"));
    places.push(folder);
    const wanted = ["tenants", "export", "latest", "--tenant", id, "--out", join(folder, "csv")];
    const done = await shop.site.json(wanted);
    expect(done.files.find(({ name }: { name: string }) => name === "app.terminals.csv")).toMatchObject({
      rows: 2,
    });
    expect(readFileSync(join(folder, "csv", "app.suppliers.csv"), "utf8").split("\r\n")[0]).toBe(
      "id,tenant_id,name",
    );
    await query(shop.server.url(), "create database read_back");
    const back = await openQuery(shop.server.url("read_back"));
    try {
      await back.sql(TENANT_SHOP_SQL);
      const own = await rowsOf(sql, id);
      for (const table of ["suppliers", "terminals", "settings", "items"]) {
        const file = join(folder, "csv", `app.${table}.csv`);
        const columns = readFileSync(file, "utf8").split("\r\n")[0];
        await back.sql(`alter table app.${table} disable trigger all`);
        const copy = `\\copy app.${table} (${columns}) from '${file}' with (format csv, header)`;
        const psql = ["--set", "ON_ERROR_STOP=1", "--command", copy, shop.server.url("read_back")];
        execFileSync(join(shop.server.binDirectory, "psql"), psql, { stdio: "pipe" });
        const rows = await back.sql(`select t::text as row from app.${table} t`);
        expect(rows.map(({ row }) => row).sort()).toEqual(own[table]);
      }
    } finally {
      await back.close();
    }
    const again = await shop.site.run(
      "tenants",
      "export",
      "--tenant",
      id,
      "--out",
      join(folder, "csv"),
      "--json",
    );
    expect([again.code, JSON.parse(again.stdout).error.code]).toEqual([14, "target_refused"]);
    const script = await shop.site.json([
      "tenants",
      "export",
      "--tenant",
      id,
      "--format",
      "sql",
      "--out",
      join(folder, "sql"),
    ]);
    expect(script.files.map(({ name }: { name: string }) => name)).toContain("load.sql");
  });

  test("is known of every backup that still holds it", async () => {
    const id = tenantId(12);
    const { id: own } = await shop.site.json(["backup", "tenant", "--tenant", id]);
    const full = await shop.site.json(["backup", "full", "--logical"]);
    const check = await shop.site.json(["tenants", "erase-check", "--tenant", id]);
    expect(check).toMatchObject({ tenantId: id, holdsData: true, until: null });
    expect(check.backups.map((backup: { id: string }) => backup.id)).toEqual(
      expect.arrayContaining([own, full.id]),
    );
  });
});

describe("a tenant who is erased", () => {
  test("expires to the last backup when it was gone for a month; one who is only suspended never does", async () => {
    const erased = tenantId(90);
    const more = ["retention: {pitrWindow: 1s, one: {within: 1s}, two: {within: 1s}}"];
    const site = await shop.siteWith([...SHOP_TENANTS, ...more]);
    const opened = await openTestSite(site);
    const check = () => site.json(["tenants", "erase-check", "--tenant", erased]);
    const kept = async (): Promise<Map<string, string[]>> => {
      const { keep } = await site.json(["cleanup", "--dry-run"]);
      return new Map(keep.map(({ id, reasons }: { id: string; reasons: string[] }) => [id, reasons]));
    };
    try {
      await sql("insert into app.tenants values ($1, 'Erased', 'erased', 'ACTIVE', 'DE')", [erased]);
      const own = await site.json(["backup", "tenant", "--tenant", erased]);
      const suspended = await site.json(["backup", "tenant", "--tenant", tenantId(7)]);
      expect(await check()).toMatchObject({ isThere: true, goneSince: null, until: null, next: null });
      await sql("delete from app.tenants where id = $1", [erased]);
      expect(await check()).toMatchObject({
        isThere: false,
        goneSince: null,
        next: "jbackup backup tenant --all",
      });
      await site.json(["backup", "tenant", "--all"]);
      const [run] = await opened.catalog.runs({ job: "backup-tenant", limit: 1 });
      expect(run?.metadata.gone).toEqual({ [erased]: run?.startedAt });
      const seen = await check();
      expect(seen).toMatchObject({ isThere: false, goneSince: run?.startedAt, next: null, standsStill: [] });
      expect(Math.round((Date.parse(seen.until) - Date.now()) / 86_400_000)).toBe(30);
      expect((await kept()).get(own.id)?.at(-1)).toMatch(
        /^the last one of a tenant who is gone since .*: kept until /,
      );

      // a month goes by, and the next run takes over since when
      const startedAt = new Date(Date.now() - 40 * 86_400_000).toISOString();
      for (const one of await opened.catalog.runs({ job: "backup-tenant" })) {
        const noted = one.metadata.gone === undefined ? {} : { gone: { [erased]: startedAt } };
        await opened.catalog.saveRun({ ...one, startedAt, metadata: { ...one.metadata, ...noted } });
      }
      await site.json(["backup", "tenant", "--all"]);
      const [later] = await opened.catalog.runs({ job: "backup-tenant", limit: 1 });
      expect(later?.metadata.gone).toEqual({ [erased]: startedAt });
      expect(await check()).toMatchObject({ goneSince: startedAt });
      const text = readFileSync(site.configFile, "utf8");
      writeFileSync(site.configFile, text.replace("table: app.tenants", "table: app.nowhere"));
      expect((await kept()).has(own.id)).toBe(true); // who cannot be looked for is not gone
      writeFileSync(site.configFile, text);
      const left = await kept();
      expect([left.has(own.id), left.has(suspended.id)]).toEqual([false, true]);

      await sql("insert into app.tenants values ($1, 'Back', 'back', 'SUSPENDED', 'DE')", [erased]);
      expect((await kept()).has(own.id)).toBe(true); // back again, whatever was noted
      await sql("delete from app.tenants where id = $1", [erased]);
      await site.json(["cleanup", "--confirm", "test"]);
      expect(await check()).toMatchObject({ holdsData: false, backups: [] });
      expect((await site.json(["show", suspended.id])).copies[0].status).toBe("stored");
    } finally {
      await opened.close();
      await site.remove();
    }
  });
});

describe("an export that the schema moves under", () => {
  test.each([
    ["truncate app.notes", "insert into app.notes select id, 'twice' from app.tenants"],
    ["alter table app.notes alter body type varchar(200)", "alter table app.notes alter body type text"],
  ])("%s waits, or everything is of before", async (change, undo) => {
    const blocker = await openQuery(shop.server.url("shop"));
    try {
      const running = shop.site.start(["backup", "tenant", "--all", "--json"]);
      await blocker.sql(change);
      const ran = await running;
      const { status, failed } = JSON.parse(ran.stdout);
      // read before or after, never in between: a table that is empty for one is empty for all
      expect([ran.code, status, failed]).toEqual([0, "completed", []]);
      const notes = new Set<number>();
      for (const backup of JSON.parse(ran.stdout).backups.slice(0, 4)) {
        const { facts } = await contentOf(shop.site, backup.id);
        notes.add(facts.tables.find(({ name }) => name === "notes")?.rows ?? -1);
      }
      expect(notes.size).toBe(1);
    } finally {
      await blocker.sql(undo);
      await blocker.close();
    }
  });
});

describe("a storage that is away", () => {
  test("costs nothing but its copies, and gets them when it is back", async () => {
    const other = await shop.siteWith(SHOP_TENANTS, ["one", "two", "three"]);
    try {
      await other.json(["backup", "tenant", "--all"]);
      const place = join(other.folder, "three");
      renameSync(place, `${place}-away`);
      writeFileSync(place, "");
      await sql(
        `update app.items set price = price + 1 where tenant_id in ('${tenantId(1)}', '${tenantId(2)}')`,
      );
      const partly = await other.json(["backup", "tenant", "--all"], [3]);
      const missing = (backup: { copies: { storage: string; status: string }[] }): string[] =>
        backup.copies.filter(({ status }) => status === "missing").map(({ storage }) => storage);
      expect(new Set(partly.backups.flatMap(missing))).toEqual(new Set(["three"]));
      expect(partly).toMatchObject({ status: "completed", failed: [] });
      rmSync(place);
      renameSync(`${place}-away`, place);
      await other.json(["backup", "tenant", "--tenant", tenantId(7)]);
      const listed = await other.json(["list", "--kind", "tenant", "--limit", "100"]);
      const last = new Map(
        listed.toReversed().map((backup: { tenantId: string }) => [backup.tenantId, backup]),
      );
      for (const backup of last.values()) expect(missing(backup as never)).toEqual([]);
      for (const name of ["one", "two"]) rmSync(join(other.folder, name, "backups"), { recursive: true });
      for (const nth of [1, 4]) {
        const found = last.get(tenantId(nth)) as { id: string };
        const { facts } = await contentOf(other, found.id);
        expect(facts.id).toBe(tenantId(nth));
      }
    } finally {
      await other.remove();
    }
  });
});
