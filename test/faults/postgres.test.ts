import { rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { brokenBackups, filesBelow } from "../support/files.js";
import { resume, runUntil } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import { wrapPrograms } from "../support/wrappers.js";

let server: TestPostgres;
let site: TestSite;
const BACKUP = ["backup", "full", "--logical"];

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) || md5((g + 1)::text) as note from generate_series(1, 200000) g",
    "create table customers as select g as id, 'customer ' || g as name from generate_series(1, 500) g",
  );
  site = await makeSite({ here: true, url: server.url("shop"), more: ["compression: {codec: none}"] });
  await site.json(BACKUP);
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

const rowsOf = async (url: string): Promise<Record<string, string>> => {
  const { database: _, ...rows } = await contentOf(url);
  return rows;
};

async function expectEqualAfterRestore(from: TestSite, reference: string, expected: Record<string, string>) {
  await from.json(["restore", reference, "--into-db", "proof", "--reason", "proof"]);
  const rows = await rowsOf(server.url("proof"));
  await query(server.url(), "drop database proof");
  expect(rows).toEqual(expected);
}

const usePrograms = (spoilt: TestSite, folder: string): Promise<void> =>
  spoilt.configure(
    `site: spoilt\ndatabase: {url: "${server.url("shop")}", binDirectory: ${folder}}\nstorages:\n  - {name: local, kind: local, path: ${spoilt.folder}/local}\n`,
  );

describe("a server that restarts", () => {
  test("during a backup fails it; the next run succeeds", async () => {
    const before = filesBelow(join(site.folder, "local"));
    const stopped = await runUntil(site, "dumping", [...BACKUP, "--json"]);
    await server.restart("immediate");
    const ran = await resume(stopped);
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout).error.message).toMatch(/PostgreSQL|pg_dump/);
    expect(filesBelow(join(site.folder, "local"))).toEqual(before);
    expect((await site.json(["list"]))[0]).toMatchObject({ status: "failed" });
    expect(await site.json(["alerts"])).toMatchObject([
      { type: "BACKUP_FAILURE", severity: "critical", status: "active" },
    ]);
    const next = await site.json(BACKUP);
    expect(next.status).toBe("completed");
    expect(await site.json(["alerts"])).toEqual([]);
    await expectEqualAfterRestore(site, next.id, await rowsOf(server.url("shop")));
  });

  test.each(["side-created", "checked"])(
    "during a restore at %s leaves the live database alone",
    async (step) => {
      const before = await contentOf(server.url("shop"));
      const restore = ["restore", "--reason", "test", "--confirm", "shop"];
      const stopped = await runUntil(site, step, [...restore, "--json"]);
      await server.restart("immediate");
      const ran = await resume(stopped);
      expect(ran.code).toBe(1);
      expect(JSON.parse(ran.stdout).error.message).toMatch(/PostgreSQL|pg_restore/);
      expect(await contentOf(server.url("shop"))).toEqual(before);
      expect((await site.json(["restores"]))[0]).toMatchObject({ status: "failed" });
      const done = await site.json(restore);
      expect(done.status).toBe("completed");
      expect(await contentOf(server.url("shop"))).toEqual(before);
      const names = await query(server.url(), "select datname from pg_database where datname ~ '_jbackup_'");
      expect(names).toEqual([]);
      await query(server.url(), `drop database "${done.warnings.join().match(/kept as (\w+)/)[1]}"`);
    },
  );
});

const SPOILT: [what: string, program: string, script: string, message: RegExp][] = [
  [
    "is killed midway",
    "pg_dump",
    `"$REAL" "$@" | head -c 3000000; kill -KILL $$`,
    /^pg_dump was killed by SIGKILL/,
  ],
  [
    "ends with a code other than 0",
    "pg_dump",
    `"$REAL" "$@"; echo "pg_dump: last words" >&2; exit 3`,
    /^pg_dump ended with code 3: pg_dump: last words$/,
  ],
  [
    "prints an error but ends with code 0",
    "pg_dump",
    `"$REAL" "$@"; echo "pg_dump: error: query failed: ERROR:  out of shared memory" >&2; exit 0`,
    /^pg_dump ended with code 0 but reported: pg_dump: error: query failed: ERROR: {2}out of shared memory$/,
  ],
  ["writes nothing", "pg_dump", "exit 0", /^pg_dump wrote nothing$/],
  [
    "writes something that is no dump",
    "pg_dump",
    "echo all is well; exit 0",
    /pg_restore ended with code 1: .*not appear to be a valid archive/,
  ],
  [
    "leaves out a table",
    "pg_dump",
    `exec "$REAL" "$@" --exclude-table-data=customers`,
    /^the dump holds the data of 1 tables, but the database has 2$/,
  ],
  [
    "fails at the roles",
    "pg_dumpall",
    `echo "pg_dumpall: error: no rights" >&2; exit 1`,
    /^pg_dumpall ended with code 1: pg_dumpall: error: no rights$/,
  ],
];

describe("a client program that", () => {
  test.each(SPOILT)("%s is never success", async (_what, program, script, message) => {
    const folder = await wrapPrograms(server.binDirectory, { [program]: script });
    const spoilt = await makeSite({ here: true, url: server.url("shop") });
    try {
      await usePrograms(spoilt, folder);
      const { error } = await spoilt.json(BACKUP, [1]);
      expect(error.message).toMatch(message);
      expect((await spoilt.json(["list"]))[0]).toMatchObject({ status: "failed", copies: [] });
      expect(await spoilt.json(["alerts"])).toMatchObject([{ type: "BACKUP_FAILURE", status: "active" }]);
      expect(filesBelow(join(spoilt.folder, "local")).filter((file) => /backups/.test(file))).toEqual([]);
    } finally {
      await spoilt.remove();
      rmSync(folder, { recursive: true });
    }
  });

  test("stops half-way and says nothing is found by reading what it wrote", async () => {
    const folder = await wrapPrograms(server.binDirectory, {
      pg_dump: `"$REAL" "$@" | head -c 6000000; exit 0`,
    });
    const spoilt = await makeSite({ here: true, url: server.url("shop") });
    try {
      await usePrograms(spoilt, folder);
      const { id } = await spoilt.json(BACKUP);
      expect((await spoilt.json(["verify", "--level", "sealed"])).problems).toEqual([]);
      const { problems } = await spoilt.json(["verify", "--level", "content"], [4]);
      expect(problems).toMatchObject([
        {
          backupId: id,
          problem: expect.stringMatching(/^the dump in it is not whole: pg_restore ended with/),
        },
      ]);
    } finally {
      await spoilt.remove();
      rmSync(folder, { recursive: true });
    }
  });

  test("restores only in part never gets to name the result", async () => {
    const folder = await wrapPrograms(server.binDirectory, {
      pg_restore: `case "$*" in *--dbname*) exec "$REAL" --exclude-schema=nothing "$@" --table=customers;; *) exec "$REAL" "$@";; esac`,
    });
    const spoilt = await makeSite({ here: true, url: server.url("shop") });
    try {
      await usePrograms(spoilt, folder);
      await spoilt.json(BACKUP);
      const before = await contentOf(server.url("shop"));
      const { error } = await spoilt.json(["restore", "--reason", "test", "--confirm", "shop"], [4]);
      expect(error.message).toMatch(
        /is not what was backed up: .*public\.orders has no rows where 200000 were/,
      );
      expect(await contentOf(server.url("shop"))).toEqual(before);
    } finally {
      await spoilt.remove();
      rmSync(folder, { recursive: true });
    }
  });
});

test("a role from which row-level security hides rows is refused before the dump", async () => {
  await query(server.url(), "create database guarded", "create role reader login");
  await query(
    server.url("guarded"),
    "create table notes (id int, tenant text); insert into notes select g, 't' || g % 3 from generate_series(1, 30) g",
    "alter table notes enable row level security; create policy mine on notes using (tenant = current_setting('app.tenant', true))",
    "grant select on notes to reader",
  );
  const limited = await makeSite({ here: true, url: server.url("guarded", "reader") });
  try {
    const { error } = await limited.json(BACKUP, [1]);
    expect(error).toEqual({
      code: "postgres_denied",
      message: 'row-level security hides rows of public.notes from user "reader"',
      hint: 'a backup must see every row: ALTER ROLE "reader" BYPASSRLS, or name another role in database.url',
      exitCode: 1,
    });
    expect(filesBelow(join(limited.folder, "local")).filter((file) => /backups/.test(file))).toEqual([]);
    await query(server.url(), "alter role reader bypassrls");
    const backup = await limited.json(BACKUP);
    expect(backup.metadata.rows).toBe(30);
    expect(backup.warnings.join()).toContain("role passwords are not included");
  } finally {
    await limited.remove();
  }
});

describe("while the snapshot is taken", () => {
  const changes = [
    ["TRUNCATE", "truncate ledger", { tables: 2, rows: 1 }],
    [
      "an ALTER TABLE that rewrites",
      "alter table ledger alter column amount type text",
      { tables: 2, rows: 5001 },
    ],
    ["DROP TABLE", "drop table ledger", { tables: 1, rows: 1 }],
  ] as const;
  test.each(changes)(
    "%s goes first, and the dump begins again after it",
    async (_name, statement, counts) => {
      await query(server.url(), "drop database if exists books", "create database books");
      await query(
        server.url("books"),
        "create table ledger as select g as id, g * 2 as amount from generate_series(1, 5000) g; create table other as select 1 as one",
      );
      const books = await makeSite({ here: true, url: server.url("books") });
      try {
        const stopped = await runUntil(books, "snapshot-taken", [...BACKUP, "--json"]);
        const client = new pg.Client(server.url("books"));
        await client.connect();
        const changed = client.query(statement); // waits for the backup's lock, and the backup's pg_dump for it
        await delay(300);
        const resumed = Date.now();
        const ending = resume(stopped);
        await changed;
        expect(Date.now() - resumed).toBeLessThan(15_000);
        await client.end();
        const ran = await ending;
        expect(ran.code).toBe(0);
        const backup = JSON.parse(ran.stdout);
        expect(backup.metadata).toMatchObject(counts);
        await expectEqualAfterRestore(books, backup.id, await rowsOf(server.url("books")));
      } finally {
        await books.remove();
        await query(server.url(), "drop database books with (force)");
      }
    },
  );
});

test("a server that lacks an extension of the backup is refused first", async () => {
  await query(server.url(), "create database extended");
  await query(server.url("extended"), "create extension pg_trgm; create table words (w text)");
  // as a backup from a server with more extensions would name it
  await query(
    server.url("extended"),
    "set allow_system_table_mods = on; update pg_extension set extname = 'no_such_extension' where extname = 'pg_trgm'",
  );
  const extended = await makeSite({ here: true, url: server.url("extended") });
  try {
    const backup = await extended.json(BACKUP);
    const { error } = await extended.json(
      ["restore", backup.id, "--into-db", "elsewhere", "--reason", "test"],
      [16],
    );
    expect(error).toMatchObject({
      code: "environment",
      message: "the server lacks the extensions no_such_extension",
    });
    expect(await query(server.url(), "select 1 from pg_database where datname ~ '^elsewhere'")).toEqual([]);
  } finally {
    await extended.remove();
    await query(server.url(), "drop database extended with (force)");
  }
});

test("sessions outlive a server that ends idle ones", async () => {
  await query(server.url(), "alter system set idle_session_timeout = '1s'", "select pg_reload_conf()");
  try {
    const stopped = await runUntil(site, "dumping", [...BACKUP, "--json"]);
    await delay(2_500);
    const locks = await query(
      server.url(),
      "select count(*)::int as many from pg_locks where locktype = 'advisory'",
    );
    expect((await resume(stopped)).code).toBe(0);
    expect(locks).toEqual([{ many: 1 }]);
  } finally {
    await query(server.url(), "alter system reset idle_session_timeout", "select pg_reload_conf()");
  }
});

test("nothing here left a broken backup behind", () => {
  expect(brokenBackups(join(site.folder, "local"))).toEqual([]);
});
