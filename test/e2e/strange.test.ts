import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { contentOf, query, schemaOf } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import { STRANGE_NAME, STRANGE_ROLES, STRANGER_SQL } from "../support/stranger.js";

let server: TestPostgres;
let site: TestSite;
let schema: string;
let content: Record<string, string>;
let globals: string[];

const quoted = `"${STRANGE_NAME.replaceAll('"', '""')}"`;
const url = (database = STRANGE_NAME): string =>
  `postgresql://postgres@/${encodeURIComponent(database)}?host=${encodeURIComponent(server.socketDirectory)}&port=${server.port}`;

/** What one cluster knows about roles; the random salt of a password is kept by a restore, so it must be equal too. */
const globalsOf = (): string[] =>
  execFileSync(
    join(server.binDirectory, "pg_dumpall"),
    ["--globals-only", "-h", server.socketDirectory, "-p", String(server.port), "-U", "postgres"],
    { encoding: "utf8" },
  )
    .replace(/^\\(un)?restrict .*$/gm, "")
    .split("\n")
    .sort();

/** What pg_dump leaves to CREATE DATABASE. */
const databaseOf = async (name: string): Promise<Record<string, string>[]> =>
  query(
    server.url(),
    `select datlocprovider::text as provider, daticulocale as locale, datcollate, datctype, datistemplate::text as template, datallowconn::text as open,
            (select spcname from pg_tablespace t where t.oid = d.dattablespace) as tablespace
       from pg_database d where datname = '${name.replaceAll("'", "''")}'`,
  );

let database: Record<string, string>[];

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), STRANGE_ROLES);
  await query(
    server.url(),
    "set allow_in_place_tablespaces = on",
    "create tablespace odd_space location ''",
    "grant create on tablespace odd_space to plain_reader",
    "grant set on parameter session_replication_role to plain_reader",
  );
  await query(
    server.url(),
    `create database ${quoted} template template0 locale_provider icu icu_locale 'de' owner stranger_owner tablespace odd_space`,
    `revoke connect on database ${quoted} from public`,
    `grant connect on database ${quoted} to "str anger" with grant option`,
    `alter database ${quoted} set datestyle to 'SQL, DMY'`,
    `alter database ${quoted} set search_path to ''`,
    `alter database ${quoted} set app.odd to E'a\\nb''c\\\\d'`,
    `alter role plain_reader in database ${quoted} set search_path to "a b", "c""d", public`,
  );
  await query(url(), STRANGER_SQL);
  schema = schemaOf(server, url());
  content = await contentOf(url());
  globals = globalsOf();
  database = await databaseOf(STRANGE_NAME);
  site = await makeSite({ here: true, url: url() });
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

async function expectEqual(): Promise<void> {
  expect(await contentOf(url())).toEqual(content);
  expect(schemaOf(server, url())).toBe(schema);
  expect(await databaseOf(STRANGE_NAME)).toEqual(database);
}

test("rare things come back equal after the database and its roles are gone", async () => {
  await site.json(["backup", "full", "--logical"]);
  await query(
    server.url(),
    `drop database ${quoted}`,
    `drop role "str anger"`,
    "drop owned by plain_reader",
    "drop role plain_reader",
    "drop role lone_group", // its member stays, and must be one again
    "drop role stranger_owner",
  );
  const restored = await site.json(["restore", "--reason", "all gone"]);
  expect(restored.target).toBe(STRANGE_NAME);
  await expectEqual();
  expect(globalsOf()).toEqual(globals);
});

test("a name that PostgreSQL would cut is refused", async () => {
  const ran = await site.run("restore", "--into-db", "ü".repeat(32), "--reason", "x");
  expect(ran.stderr).toBe(
    `Error: the name "${"ü".repeat(32)}" is longer than the 63 bytes that PostgreSQL keeps of a name\nTry: give a shorter name with --into-db\n`,
  );
  expect(ran.code).toBe(2);
});

test("a restore of a database with a long name swaps, keeps the old one, and can be made twice", async () => {
  const kept: string[] = [];
  for (const mark of ["one", "two"]) {
    await query(url(), `alter event trigger no_ddl disable`, `create table s.mark_${mark} ()`);
    const restored = await site.json(["restore", "--reason", mark, "--confirm", STRANGE_NAME]);
    await expectEqual();
    expect(restored.warnings.at(-1)).toBe(
      `the database that was there is kept as ${restored.metadata.keptAs}; drop it when it is no longer needed`,
    );
    expect(schemaOf(server, url(restored.metadata.keptAs))).toContain(`CREATE TABLE s.mark_${mark} (`);
    kept.push(restored.metadata.keptAs);
  }
  expect(new Set(kept).size).toBe(2);
  for (const name of kept) await query(server.url(), `drop database "${name.replaceAll('"', '""')}"`);
});

test("rare things are restored in place", async () => {
  await query(url(), "delete from s.self where id > 100; delete from s.self; truncate s.parted");
  await site.json(["restore", "--in-place", "--reason", "in place", "--confirm", STRANGE_NAME]);
  await expectEqual();
});

test("rare things come back by a merge too, past triggers, rules and policies", async () => {
  await query(
    url(),
    `alter event trigger no_ddl disable; alter table s.folded disable trigger refuse; delete from s.folded;
     alter table s.folded enable trigger refuse; alter event trigger no_ddl enable;
     delete from s.parted where id % 3 = 0; delete from s.self; delete from s.domains; delete from s.lost_columns where id < -10;
     delete from s.large; delete from s."select"; delete from s.nulls; delete from "PG_upper"."T"; delete from s.computed;
     delete from s.of_type; delete from s.clustered; delete from s.only_tenants; select lo_unlink(777)`,
  );
  const merged = await site.json(["restore", "--mode", "merge", "--reason", "rows lost"]);
  await expectEqual();
  expect(merged.rowsRestored).toBe(318);
  expect(merged.warnings).toContain("1 large object was brought back");
});

test("an event trigger that writes down every DDL statement finds nothing to write in a restore", async () => {
  await query(server.url(), "create database audited");
  await query(
    server.url("audited"),
    `create table log (tag text); create table x as select 1 as a; create materialized view seen as select * from x;
     create function note_ddl() returns event_trigger language plpgsql as 'begin insert into public.log values (tg_tag); end';
     create event trigger note_ddl on ddl_command_end execute function note_ddl(); comment on event trigger note_ddl is 'c';
     alter event trigger note_ddl enable always`,
  );
  const before = [await contentOf(server.url("audited")), schemaOf(server, "audited")];
  const audited = await makeSite({ here: true, url: server.url("audited") });
  try {
    await audited.json(["backup", "full", "--logical"]);
    for (const how of [[], ["--in-place"]]) {
      await audited.json(["restore", ...how, "--reason", "audited", "--confirm", "audited"]);
      expect([await contentOf(server.url("audited")), schemaOf(server, "audited")]).toEqual(before);
    }
  } finally {
    await audited.remove();
  }
});
