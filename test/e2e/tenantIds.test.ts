import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

const LONG = "テ".repeat(29);
const FINE = ["a first", "zz last", "店".repeat(20)];
const BAD: [id: string, why: RegExp][] = [
  ["", /^an empty id names no folder$/],
  ["b\tc", /^its id has control characters/],
  ["m".repeat(300), /^its id takes 300 characters as the name of a folder, and 200 are the most$/],
  [LONG, /^its id takes 261 characters /],
];

let server: TestPostgres;
let site: TestSite;

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  const ids = [...FINE, ...BAD.map(([id]) => id)];
  await query(
    server.url("shop"),
    "create table tenants (id text primary key)",
    'create table "注文" (tenant_id text not null references tenants, v int)',
    'create table "顧客" (tenant_id text not null references tenants, v int)',
    ...ids.map((id) => `insert into tenants values ('${id}')`),
    `insert into "注文" select id, 1 from tenants`,
    `insert into "顧客" select id, 2 from tenants`,
  );
  site = await makeSite({
    here: true,
    url: server.url("shop"),
    storages: (folder) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${folder}/${name}}`),
    more: ["tenants:", "  table: tenants", "  idColumn: id", "  column: tenant_id"],
  });
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

test("a tenant whose id cannot be stored fails alone, and the storages are not to blame", async () => {
  const ran = await site.run("backup", "tenant", "--all", "--json");
  expect(ran.code).toBe(3);
  expect(ran.stderr).not.toContain("is out of this backup");
  const { status, backups, failed } = JSON.parse(ran.stdout);
  expect(status).toBe("partial");
  expect(backups.map(({ tenantId }: { tenantId: string }) => tenantId).sort()).toEqual(FINE.toSorted());
  for (const { copies } of backups)
    expect(copies.map(({ status: copy }: { status: string }) => copy)).toEqual(["stored", "stored"]);
  const errors = new Map(
    failed.map(({ tenantId, error }: { tenantId: string; error: string }) => [tenantId, error]),
  );
  expect(errors.size).toBe(BAD.length);
  for (const [id, why] of BAD) expect(errors.get(id)).toMatch(why);
  expect((await site.json(["alerts"])).map(({ type }: { type: string }) => type)).toEqual(["BACKUP_FAILURE"]);
  const check = await site.json(["tenants", "erase-check", "--tenant", LONG]);
  expect(check).toMatchObject({ tenantId: LONG, backups: [] });
});

test("tables whose names come to the same file are exported each to its own", async () => {
  const out = join(site.folder, "out");
  await site.json(["tenants", "export", "--tenant", "a first", "--out", out]);
  const tables = readdirSync(out).filter((name) => name.startsWith("public._"));
  expect(tables.toSorted()).toEqual(["public.__-2.csv", "public.__.csv"]);
  const values = tables.map((name) => readFileSync(join(out, name), "utf8").split(",").at(-1)?.trim());
  expect(values.toSorted()).toEqual(["1", "2"]);
});
