import { afterAll, beforeAll, expect, test } from "vitest";
import { contentOf, query, schemaOf } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;
let content: Record<string, string>;
let schema: string;

const ownUrl = (): string => server.url("shop").replace("postgres@", "keeper@");

beforeAll(async () => {
  server = await startPostgres();
  await query(
    server.url(),
    "create role keeper login createdb",
    "create role reader",
    "create database shop owner keeper",
  );
  await query(
    ownUrl(),
    `create schema app; create extension pg_trgm schema app;
     create table app.customers (id int generated always as identity primary key, name text);
     create table app.orders (id int primary key, customer int references app.customers, boss int references app.orders, note text);
     insert into app.customers (name) select 'c' || g from generate_series(1, 20) g;
     insert into app.orders select g, 1 + g % 20, nullif(g - 1, 0), 'n' || g from generate_series(1, 200) g;
     grant select on app.orders to reader; grant usage on schema app to reader;
     create table app.log (at timestamptz default now(), what text);
     create function app.note() returns trigger language plpgsql as 'begin insert into app.log (what) values (tg_op); return new; end';
     create trigger note after insert on app.orders for each row execute function app.note();
     select lo_from_bytea(99, 'large');
     comment on schema app is 'the application'`,
  );
  content = await contentOf(server.url("shop"));
  schema = schemaOf(server, "shop");
  site = await makeSite({ here: true, url: ownUrl() });
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

async function expectEqual(): Promise<void> {
  expect(await contentOf(server.url("shop"))).toEqual(content);
  expect(schemaOf(server, "shop")).toBe(schema);
}

test("the owner of a database, who is no superuser, backs it up and is told what he cannot read", async () => {
  const backup = await site.json(["backup", "full", "--logical"]);
  expect(backup.status).toBe("completed");
  expect(backup.warnings).toEqual(["role passwords are not included: the backup role may not read them"]);
});

test("he restores it over the live one, which is kept", async () => {
  await query(ownUrl(), "delete from app.orders where id > 100");
  const restored = await site.json(["restore", "--reason", "deleted", "--confirm", "shop"]);
  await expectEqual();
  const kept = server.url(restored.metadata.keptAs);
  expect(await query(kept, "select count(*)::text as n from app.orders")).toEqual([{ n: "100" }]);
  await query(server.url(), `drop database ${restored.metadata.keptAs}`);
});

test("he restores it in place", async () => {
  await query(ownUrl(), "drop table app.orders cascade; create table public.newer ()");
  await site.json(["restore", "--in-place", "--reason", "dropped", "--confirm", "shop"]);
  await expectEqual();
});

test("he restores it after the database was dropped", async () => {
  await query(server.url(), "drop database shop");
  await site.json(["restore", "--reason", "dropped"]);
  await expectEqual();
});

test("he merges what is missing, with triggers on, and is told of them", async () => {
  await query(
    ownUrl(),
    "delete from app.orders where id > 150; update app.orders set note = 'mine' where id = 1",
  );
  const merged = await site.json(["restore", "--mode", "merge", "--reason", "deleted"]);
  expect(merged.tables.find(({ table }: { table: string }) => table === "app.orders")).toEqual({
    table: "app.orders",
    inserted: 50,
    updated: 0,
    deleted: 0,
    unchanged: 150,
  });
  expect(merged.warnings.join("\n")).toMatch(/trigger note/);
  expect(
    await query(
      ownUrl(),
      "select count(*)::text as n, count(*) filter (where note = 'mine')::text as mine from app.orders",
    ),
  ).toEqual([{ n: "200", mine: "1" }]);
});

test("where a role is missing that he may not create, the refusal names it, and nothing is changed", async () => {
  await query(server.url("shop"), "drop owned by reader", "drop role reader");
  const before = await contentOf(server.url("shop"));
  const ran = await site.run("restore", "--into-db", "copy", "--reason", "x");
  expect(ran.code).toBe(1);
  expect(ran.stderr).toBe(
    'Error: the server lacks the roles reader, and user "keeper" may not create any\nTry: create them first, or name a role with CREATEROLE in database.url\n',
  );
  expect(await contentOf(server.url("shop"))).toEqual(before);
  expect(await query(server.url(), "select datname from pg_database where datname ~ 'copy|jbackup'")).toEqual(
    [],
  );
});
