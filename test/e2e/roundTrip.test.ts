import { execFileSync } from "node:child_process";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AWKWARD_DATABASE, AWKWARD_SQL, contentOf, query, schemaOf } from "../support/awkward.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import { type Swift, startSwift } from "../support/swift.js";

let server: TestPostgres;
let swift: Swift;
let b2: B2Server;
let site: TestSite;
let schema: string;
let content: Record<string, string>;
let storages: Record<string, string>;

beforeAll(async () => {
  [server, swift, b2] = await Promise.all([startPostgres(), startSwift(), startB2Server()]);
  await swift.createBucket("awkward");
  b2.createBucket("awkward");
  await query(server.url(), "create database awkward");
  await query(server.url("awkward"), AWKWARD_SQL);
  for (const statement of AWKWARD_DATABASE("awkward")) await query(server.url(), statement);
  schema = schemaOf(server, "awkward");
  content = await contentOf(server.url("awkward"));
  storages = {};
  site = await makeSite({
    url: server.url("awkward"),
    storages: (folder) => {
      storages.local = `- {name: local, kind: local, path: ${join(folder, "local")}}`;
      storages.r2 = `- {name: r2, kind: s3, endpoint: "${swift.endpoint}", bucket: awkward, prefix: prod, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: {env: S3_SECRET}}`;
      storages.b2 = `- {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: awkward, prefix: prod, keyId: {env: B2_ID}, applicationKey: {env: B2_KEY}}`;
      return Object.values(storages);
    },
    environment: { S3_SECRET: swift.secretAccessKey, B2_ID: b2.keyId, B2_KEY: b2.applicationKey },
  });
});

afterAll(async () => {
  await site?.remove();
  await Promise.all([server?.stop(), swift?.stop(), b2?.stop()]);
});

async function expectEqual(database: string): Promise<void> {
  expect(await contentOf(server.url(database))).toEqual(content);
  expect(schemaOf(server, database)).toBe(schema);
}

const BACKUP_FIELDS = [
  "id",
  "label",
  "kind",
  "method",
  "tenantId",
  "status",
  "createdAt",
  "finishedAt",
  "durationMs",
  "rawBytes",
  "storedBytes",
  "compressionRatio",
  "checksum",
  "parentId",
  "copies",
  "note",
  "createdBy",
  "warnings",
  "metadata",
];
const RESTORE_FIELDS = [
  "id",
  "backupId",
  "mode",
  "status",
  "target",
  "targetTime",
  "tenantIds",
  "rowsRestored",
  "durationMs",
  "tables",
  "warnings",
];

describe("a database with awkward content", () => {
  test("is backed up into three storages from one read", async () => {
    const backup = await site.json(["backup", "full", "--logical", "--note", "first"]);
    expect(Object.keys(backup)).toEqual(expect.arrayContaining(BACKUP_FIELDS));
    expect(backup).toMatchObject({
      kind: "full",
      method: "logical",
      status: "completed",
      note: "first",
      parentId: null,
    });
    expect(backup.copies).toEqual(
      [
        ["local", "local"],
        ["r2", "s3"],
        ["b2", "b2"],
      ].map(([storage, kind]) => ({
        storage,
        kind,
        status: "stored",
        path: backup.copies[0].path,
        bytes: backup.storedBytes,
        verifiedAt: null,
      })),
    );
    expect(backup.warnings).toContain("1 unlogged tables (emptied by a crash of the server): other.fleeting");
    const listed = await site.json(["list"]);
    expect(listed).toEqual([backup]);
    const shown = await site.json(["show", backup.label.slice(0, -2)]);
    expect(shown.tables).toContainEqual({ table: "other.parent", rows: 49 });
    expect(shown.contents.map(({ name }: { name: string }) => name)).toEqual([
      "globals.sql",
      "database.pgdump",
    ]);
  });

  test("comes back equal after the database and one of its roles are gone", async () => {
    await query(server.url(), "drop database awkward");
    await query(server.url(), 'drop role "Odd Reader"');
    const restored = await site.json(["restore", "latest", "--mode", "full", "--reason", "it was dropped"]);
    expect(Object.keys(restored)).toEqual(expect.arrayContaining(RESTORE_FIELDS));
    expect(restored).toMatchObject({ mode: "full", status: "completed", target: "awkward", tenantIds: [] });
    await expectEqual("awkward");
    const [role] = await query(
      server.url(),
      "select rolcanlogin::text as login, rolpassword is not null as password from pg_authid where rolname = 'Odd Reader'",
    );
    expect(role).toMatchObject({ login: "true" });
    expect(
      await query(
        server.url(),
        `select roleid::regrole::text as group from pg_auth_members where member = '"Odd Reader"'::regrole`,
      ),
    ).toEqual([{ group: "awkward_group" }]);
  });

  test("replaces the live one by a swap that keeps the old one", async () => {
    await query(
      server.url("awkward"),
      "drop table other.no_key; delete from other.no_columns; create table public.newer (x int); insert into public.newer values (1)",
    );
    const refused = await site.run("restore", "--reason", "bad migration");
    expect(refused.code).toBe(13);
    expect(refused.stderr).toBe(
      'Error: this restore overwrites "awkward" and needs its name as confirmation\nTry: give --confirm awkward\n',
    );
    const restored = await site.json(["restore", "--reason", "bad migration", "--confirm", "awkward"]);
    await expectEqual("awkward");
    const { keptAs } = restored.metadata;
    expect(restored.warnings.at(-1)).toBe(
      `the database that was there is kept as ${keptAs}; drop it when it is no longer needed`,
    );
    expect(await query(server.url(keptAs), "select x::text from public.newer")).toEqual([{ x: "1" }]);
    await query(server.url(), `drop database ${keptAs}`);
  });

  test("goes into a new database beside the live one, and refuses one that exists", async () => {
    await site.json(["restore", "--into-db", "beside", "--reason", "look"]);
    expect({ ...(await contentOf(server.url("beside"))) }).toEqual(content);
    const again = await site.run("restore", "--into-db", "beside", "--reason", "look");
    expect(again.code).toBe(14);
    expect(again.stderr).toContain('Error: the database "beside" exists already\n');
    await query(server.url(), "drop database beside");
  });

  test("is restored in place, in one transaction", async () => {
    await query(
      server.url("awkward"),
      "truncate other.measures; update other.guarded set tenant = 'wrong'; create table other.newer (x int)",
    );
    await site.json(["restore", "--in-place", "--confirm", "awkward", "--reason", "in place"]);
    await expectEqual("awkward");
  });

  test.each(["local", "r2", "b2"])("is restored from %s alone", async (name) => {
    const alone = await makeSite({
      url: server.url("awkward"),
      storages: () => [storages[name] ?? ""],
      environment: site.environment,
    });
    try {
      await alone.json(["restore", "--into-db", `from_${name}`, "--reason", name]);
      expect(await contentOf(server.url(`from_${name}`))).toEqual(content);
      await query(server.url(), `drop database from_${name}`);
    } finally {
      await alone.remove();
    }
  });

  test("is opened without jbackup by the recovery script, and accepted by pg_restore", async () => {
    const [backup] = await site.json(["list"]);
    const recover = fileURLToPath(new URL("../../bin/recover.mjs", import.meta.url));
    const out = join(site.folder, "recovered");
    execFileSync(process.execPath, [
      recover,
      "open",
      join(site.folder, "local", backup.copies[0].path),
      "--identity",
      join(site.home, "keys/identity"),
      "--out",
      out,
    ]);
    expect((await readdir(out)).sort()).toEqual(["database.pgdump", "globals.sql"]);
    await query(server.url(), "create database recovered template template0");
    execFileSync(join(server.binDirectory, "pg_restore"), [
      "-h",
      server.socketDirectory,
      "-p",
      String(server.port),
      "-U",
      "postgres",
      "--exit-on-error",
      "--dbname=recovered",
      join(out, "database.pgdump"),
    ]);
    const { database: _, ...relations } = await contentOf(server.url("recovered"));
    expect(relations).toEqual(
      Object.fromEntries(Object.entries(content).filter(([name]) => name !== "database")),
    );
    await query(server.url(), "drop database recovered");
  });

  test("is found and restored after the catalog is lost, and the catalog comes back from one storage", async () => {
    const [before] = await site.json(["list"]);
    for (const name of ["catalog.db", "catalog.db-wal", "catalog.db-shm"])
      await rm(join(site.home, name), { force: true });
    const restored = await site.json([
      "restore",
      "latest",
      "--into-db",
      "uncatalogued",
      "--reason",
      "catalog lost",
    ]);
    expect(restored.backupId).toBe(before.id);
    expect(await contentOf(server.url("uncatalogued"))).toEqual(content);
    await query(server.url(), "drop database uncatalogued");
    expect(await site.json(["list"])).toEqual([]);
    expect(await site.json(["catalog", "rebuild", "--from", "local"])).toMatchObject({
      storages: ["local"],
      found: 1,
      added: 1,
      refused: [],
    });
    const [after] = await site.json(["list"]);
    expect({ ...after, metadata: null }).toEqual({ ...before, metadata: null });
  });
});

describe("a merge", () => {
  const damage = [
    "delete from other.measures where at < '2025-03-01'",
    "delete from other.no_key",
    "update other.guarded set tenant = 'changed' where id <= 3",
    "delete from other.guarded where id > 25",
    "insert into other.guarded values (1000, 'new')",
  ];

  test("adds what is missing and leaves every existing row as it is", async () => {
    await query(server.url("awkward"), "drop rule protect on other.no_key", ...damage);
    const merged = await site.json(["restore", "--mode", "merge", "--reason", "rows deleted"]);
    const counts = Object.fromEntries(merged.tables.map((table: { table: string }) => [table.table, table]));
    expect(counts["other.measures"]).toMatchObject({ inserted: 89, updated: 0, deleted: 0, unchanged: 411 });
    expect(counts["other.no_key"]).toMatchObject({ inserted: 5, unchanged: 0 });
    expect(counts["other.guarded"]).toMatchObject({ inserted: 5, updated: 0, unchanged: 25 });
    const now = await contentOf(server.url("awkward"));
    expect(now["other.measures (p)"]).toBe(content["other.measures (p)"]);
    expect(now["other.no_key (r)"]).toBe(content["other.no_key (r)"]);
    expect(
      await query(
        server.url("awkward"),
        "select count(*)::text as n from other.guarded where tenant in ('changed', 'new')",
      ),
    ).toEqual([{ n: "4" }]);
  });

  test("refuses to go on at a differing row when told to fail, and changes nothing", async () => {
    const before = await contentOf(server.url("awkward"));
    const ran = await site.run("restore", "--mode", "merge", "--on-conflict", "fail", "--reason", "check");
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("Error: other.guarded has 3 rows that differ from the backup\n");
    expect(await contentOf(server.url("awkward"))).toEqual(before);
  });

  test("overwrites differing rows when told to, of the named tables only", async () => {
    await query(server.url("awkward"), "update other.parent set label = 'kept' where id = 2");
    const merged = await site.json([
      "restore",
      "--mode",
      "merge",
      "--on-conflict",
      "overwrite",
      "--tables",
      "other.guarded",
      "--confirm",
      "awkward",
      "--reason",
      "wrong tenant",
    ]);
    expect(merged.tables).toEqual([
      { table: "other.guarded", inserted: 0, updated: 3, deleted: 0, unchanged: 27 },
    ]);
    expect(await query(server.url("awkward"), "select label from other.parent where id = 2")).toEqual([
      { label: "kept" },
    ]);
    expect(
      await query(
        server.url("awkward"),
        "select count(*)::text as n from other.guarded where tenant = 'changed'",
      ),
    ).toEqual([{ n: "0" }]);
  });
});
