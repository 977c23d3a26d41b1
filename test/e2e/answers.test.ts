import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { expectRefused } from "../support/refusal.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders (id int primary key, note text); insert into orders select g, 'n' || g from generate_series(1, 100) g; create table empty ()",
  );
  site = await makeSite({
    here: true,
    url: server.url("shop"),
    storages: (folder) => [
      `- {name: one, kind: local, path: ${join(folder, "one")}}`,
      `- {name: two, kind: local, path: ${join(folder, "two")}}`,
    ],
  });
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

const TIME = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const ID = expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
const BY = expect.stringMatching(/^.+@.+$/);

describe("an empty site", () => {
  test("answers empty lists, and says so in words", async () => {
    for (const command of ["list", "restores", "alerts"]) {
      const ran = await site.run(command, "--json");
      expect(ran.stdout).toBe("[]\n");
      expect(ran.stderr).toBe("");
    }
    expect((await site.run("list")).stdout).toMatch(/^No backups match\. /);
    expect((await site.run("restores")).stdout).toBe("No restores are recorded.\n");
    expect((await site.run("alerts")).stdout).toBe("No alerts.\n");
    // a folder that is not there may as well be a disk that is not mounted
    await expectRefused(site, ["restore", "--reason", "x"], {
      exit: 10,
      message: `storage one: list backups/full/ failed: ${site.folder}/one does not exist`,
      hint: /./,
    });
    for (const name of ["one", "two"]) mkdirSync(join(site.folder, name));
    await expectRefused(site, ["restore", "--reason", "x"], {
      exit: 10,
      message: "there is no backup yet",
      hint: "make one with jbackup backup full",
    });
  });
});

describe("one backup", () => {
  const expected = (note: string | null) => ({
    id: ID,
    label: expect.stringMatching(/^full-\d{8}-\d{6}$/),
    kind: "full",
    method: "logical",
    tenantId: null,
    status: "completed",
    createdAt: TIME,
    finishedAt: TIME,
    durationMs: expect.any(Number),
    rawBytes: expect.any(Number),
    storedBytes: expect.any(Number),
    compressionRatio: expect.any(Number),
    checksum: expect.stringMatching(/^[0-9a-f]{64}$/),
    parentId: null,
    copies: ["one", "two"].map((storage) => ({
      storage,
      kind: "local",
      status: "stored",
      path: expect.stringMatching(/^backups\/full\/\d{4}\/\d\d\/[0-9a-f-]{36}$/),
      bytes: expect.any(Number),
      verifiedAt: null,
    })),
    note,
    createdBy: BY,
    jobId: ID,
    warnings: [],
    metadata: expect.any(Object),
  });

  test("is answered with exactly the documented keys, by backup, list and show alike", async () => {
    const made = await site.json(["backup", "full", "--logical", "--note", 'first "é"\n2nd line']);
    expect(made).toStrictEqual(expected('first "é"\n2nd line'));
    expect(made.compressionRatio).toBeCloseTo(made.rawBytes / made.storedBytes, 1);
    expect(made.durationMs).toBeGreaterThan(0);
    expect(made.label.slice(5)).toBe(made.createdAt.slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-"));
    expect(await site.json(["list"])).toStrictEqual([made]);
    for (const reference of ["latest", made.id, made.label, made.id.slice(0, 13), made.label.slice(0, 10)]) {
      const { contents, tables, pin, verifications, restores, alerts, ...rest } = await site.json([
        "show",
        reference,
      ]);
      expect(rest).toStrictEqual(made);
      expect(tables).toStrictEqual([
        { table: "public.empty", rows: 0 },
        { table: "public.orders", rows: 100 },
      ]);
      expect(contents).toStrictEqual([
        { name: "globals.sql", bytes: expect.any(Number) },
        { name: "database.pgdump", bytes: expect.any(Number) },
      ]);
      expect([pin, verifications, restores, alerts]).toStrictEqual([null, [], [], []]);
    }
  });

  test("has its bytes where the answer says", async () => {
    const [backup] = await site.json(["list"]);
    for (const { storage, path } of backup.copies) {
      const { body } = JSON.parse(readFileSync(join(site.folder, storage, path, "manifest.json"), "utf8"));
      expect(body.objects.reduce((sum: number, { bytes }: { bytes: number }) => sum + bytes, 0)).toBe(
        backup.storedBytes,
      );
      for (const { name, bytes } of body.objects)
        expect(readFileSync(join(site.folder, storage, path, name)).length).toBe(bytes);
    }
  });
});

describe("a restore", () => {
  test("is planned by a dry run that changes and records nothing, and asks for no reason", async () => {
    const plan = await site.json(["restore", "--dry-run"]);
    const [backup] = await site.json(["list"]);
    expect(plan).toStrictEqual({
      backupId: backup.id,
      label: backup.label,
      createdAt: backup.createdAt,
      mode: "full",
      way: "swap",
      timeline: null,
      target: "shop",
      overwrites: "shop",
      steps: [
        `fetch and open ${backup.label} (database shop, 2 tables, 100 rows)`,
        expect.stringMatching(
          /^restore it beside, with \d+ jobs, into a database that nobody else can enter$/,
        ),
        "check that every table has as many rows as were recorded",
        "end the sessions on shop",
        "swap by rename; the present shop is kept under another name",
      ],
      rawBytes: backup.rawBytes,
      storages: ["one", "two"],
      warnings: [],
    });
    expect(await site.json(["restores"])).toStrictEqual([]);
    expect(
      await query(server.url(), "select datname from pg_database where datname ~ 'shop' order by 1"),
    ).toEqual([{ datname: "shop" }]);
  });

  test("is answered and listed with exactly the documented keys", async () => {
    const [backup] = await site.json(["list"]);
    const done = await site.json([
      "restore",
      "--into-db",
      "copy",
      "--confirm",
      "copy",
      "--reason",
      'why "not"',
    ]);
    expect(done).toStrictEqual({
      id: ID,
      backupId: backup.id,
      mode: "full",
      status: "completed",
      target: "copy",
      targetTime: null,
      tenantIds: [],
      rowsRestored: 100,
      startedAt: TIME,
      finishedAt: TIME,
      durationMs: expect.any(Number),
      tables: [
        { table: "public.empty", inserted: 0, updated: 0, deleted: 0, unchanged: 0 },
        { table: "public.orders", inserted: 100, updated: 0, deleted: 0, unchanged: 0 },
      ],
      warnings: [],
      error: null,
      reason: 'why "not"',
      initiatedBy: BY,
      jobId: ID,
      metadata: { way: "new", label: backup.label },
    });
    expect(await site.json(["restores"])).toStrictEqual([done]);
    expect((await site.json(["show", "latest"])).restores).toStrictEqual([done]);
    expect(
      await query(server.url("copy"), "select count(*)::text as n, max(note) as note from orders"),
    ).toEqual([{ n: "100", note: "n99" }]);
    await query(server.url(), "drop database copy");
  });

  test("that fails is recorded with its reason, and the target stays as it was", async () => {
    await query(server.url("shop"), "alter table orders add column extra int not null default 1");
    await query(
      server.url("shop"),
      "delete from orders where id > 50; alter table orders alter extra drop default",
    );
    const ran = await site.run("restore", "--mode", "merge", "--reason", "drifted", "--json");
    expect(ran.code).toBeGreaterThan(0);
    const [failed] = await site.json(["restores"]);
    expect(failed).toMatchObject({
      mode: "merge",
      status: "failed",
      target: "shop",
      reason: "drifted",
      rowsRestored: 0,
    });
    expect(failed.error).toBe(JSON.parse(ran.stdout).error.message);
    expect(failed.error).toContain("extra");
    expect(await query(server.url("shop"), "select count(*)::text as n from orders")).toEqual([{ n: "50" }]);
    expect((await site.json(["alerts"]))[0]).toMatchObject({
      type: "RESTORE_FAILURE",
      backupId: failed.backupId,
    });
    expect(await site.json(["restores", "--status", "failed"])).toStrictEqual([failed]);
  });

  test("goes on while others are connected: they are put out, and find the restored database when they return", async () => {
    const holding = query(server.url("shop"), "begin; lock table orders; select pg_sleep(60)").catch(
      (error: Error) => error.message,
    );
    await site.json(["restore", "--reason", "sessions", "--confirm", "shop"]);
    expect(await holding).toMatch(/terminat/);
    expect(await query(server.url("shop"), "select count(*)::text as n from orders")).toEqual([{ n: "100" }]);
    expect(await site.json(["alerts"])).toStrictEqual([]);
  });
});

describe("lists", () => {
  test("filter by kind, status, time and number, newest first", async () => {
    const second = await site.json(["backup", "full", "--logical"]);
    const all = await site.json(["list"]);
    const first = all[1];
    expect(all).toHaveLength(2);
    expect(all[0]).toStrictEqual(second);
    const labels = async (...args: string[]): Promise<string[]> =>
      (await site.json(["list", ...args])).map(({ label }: { label: string }) => label);
    expect(await labels("--kind", "full")).toEqual([second.label, first.label]);
    expect(await labels("--kind", "tenant")).toEqual([]);
    expect(await labels("--tenant", "7")).toEqual([]);
    expect(await labels("--status", "completed", "--limit", "1")).toEqual([second.label]);
    expect(await labels("--status", "failed")).toEqual([]);
    expect(await labels("--since", second.createdAt)).toEqual([second.label]);
    expect(await labels("--until", second.createdAt)).toEqual([first.label]);
    expect(await labels("--since", "1h")).toEqual([second.label, first.label]);
    expect(await labels("--until", "1h")).toEqual([]);
  });

  test("are aligned in text, one line each, however odd the notes are", async () => {
    const ran = await site.run("list");
    const [head = "", ...lines] = ran.stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    for (const title of ["STATUS", "WHEN", "METHOD", "COPIES"]) {
      const at = head.indexOf(title);
      for (const line of lines) expect(line.slice(at - 2, at + 1)).toMatch(/^ {2}\S$/);
    }
    expect(lines[1]).toContain('first "é" 2nd line');
    expect(ran.stdout).not.toMatch(/[ \t]\n/);
    expect((await site.run("restores")).stdout.split("\n")[0]).toMatch(
      /^ID +WHEN +STATUS +MODE +TARGET +ROWS +TOOK +BY +REASON$/,
    );
  });

  test("say nothing at all when quiet and all is well, but answer what was asked", async () => {
    const ran = await site.run("backup", "full", "--logical", "--quiet");
    expect(ran).toMatchObject({ code: 0, stdout: "", stderr: "" });
    expect((await site.run("list", "--quiet")).stdout).toContain("METHOD");
    expect((await site.json(["list", "--quiet"])).length).toBeGreaterThan(0);
  });
});

describe("a wrong flag", () => {
  test.each<[string[], RegExp, RegExp]>([
    [
      ["list", "--kind", "ful"],
      /^--kind cannot be "ful"; did you mean "full"\?$/,
      /^choose one of full, tenant, wal, config$/,
    ],
    [["list", "--limit", "0"], /^--limit cannot be "0"$/, /^give a whole number from 1 to 100000$/],
    [
      ["list", "--since", "2026-11-20 10:00"],
      /^--since 2026-11-20 10:00 has no time zone$/,
      /2026-11-20T10:00Z/,
    ],
    [["list", "--since", "yesterday-ish"], /^--since cannot be "yesterday-ish"$/, /2026-11-20/],
    [["list", "--lmit", "3"], /--lmit.*--limit/s, /./],
    [["restore", "a", "b", "--reason", "x"], /too many|excess|argument/i, /./],
    [
      ["restore", "--mode", "merge", "--in-place", "--reason", "x"],
      /^--in-place works with --mode full only$/,
      /./,
    ],
    [
      ["restore", "--on-conflict", "skip", "--reason", "x"],
      /^--on-conflict works with --mode merge only$/,
      /--mode merge/,
    ],
    [
      ["restore", "--tables", "orders", "--reason", "x"],
      /^--tables works with --mode merge only$/,
      /--mode merge/,
    ],
    [["restore", "--reason", "  "], /^--reason is missing/, /--dry-run/],
    [["restore", "--into-db", "", "--reason", "x"], /--into-db/, /./],
    [["show", ""], /./, /./],
    [["list", "--tenant", ""], /^--tenant names nobody$/, /tenants list/],
    [["restore", "--tenant", ",", "--reason", "x"], /^--tenant names nobody$/, /tenants list/],
    [["list", "--config", ""], /^--config names no file$/, /^give the path of one/],
    [
      ["list", "--config", "/tmp"],
      /^\/tmp is a folder, and no configuration file$/,
      /--config \/tmp\/jbackup\.yaml$/,
    ],
  ])("%j is refused as usage, with what to do", async (args, message, hint) => {
    await expectRefused(site, args, { exit: 2, message, hint });
  });

  test("or a target that must not be touched is refused", async () => {
    for (const name of ["postgres", "template1"])
      await expectRefused(site, ["restore", "--into-db", name, "--reason", "x", "--confirm", name], {
        exit: 14,
        message: `${name} is a maintenance database`,
        hint: "name another database with --into-db",
      });
    await expectRefused(site, ["restore", "--mode", "merge", "--into-db", "nowhere", "--reason", "x"], {
      exit: 10,
      message: 'there is no database "nowhere" to restore into',
      hint: /^leave out --mode merge/,
    });
    await expectRefused(site, ["restore", "--reason", "x", "--confirm", "shpo"], {
      exit: 13,
      message: '--confirm says "shpo", but what would be overwritten is "shop"',
      hint: "if that is meant, give --confirm shop",
    });
    const merge = (table: string): string[] => ["restore", "--mode", "merge", "--tables", "empty", table];
    for (const rest of [["--reason", "x"], ["--dry-run"]]) {
      await expectRefused(site, [...merge("public.orderz"), ...rest], {
        exit: 2,
        message: 'the backup has no table "public.orderz"',
        hint: "did you mean public.orders?",
      });
      await expectRefused(site, [...merge("nope"), ...rest], {
        exit: 2,
        message: 'the backup has no table "nope"',
        hint: "jbackup show BACKUP lists its tables",
      });
      await query(server.url("shop"), "alter table empty rename to away");
      await expectRefused(site, [...merge("orders"), ...rest], {
        exit: 14,
        message: "the backup does not fit the live database: the live database has no table public.empty",
        hint: "name the tables that fit with --tables, or restore beside with --into-db",
      });
      await query(server.url("shop"), "alter table away rename to empty");
    }
    expect((await site.json([...merge("public.orders"), "--dry-run"])).way).toBe("merge");
    expect(await query(server.url("shop"), "select count(*)::text as n from orders")).toEqual([{ n: "100" }]);
  });
});

describe("a configuration", () => {
  const broken = async (text: string, message: string | RegExp): Promise<void> => {
    const good = readFileSync(site.configFile, "utf8");
    await site.configure(text.replace("GOOD", good.trimEnd()));
    try {
      for (const args of [["list"], ["config", "validate"]])
        await expectRefused(site, args, {
          exit: 2,
          message,
          hint: `correct ${site.configFile}, then run jbackup config validate`,
        });
    } finally {
      await site.configure(good);
    }
  };

  test("with several errors names them all at once, each with line and path", () =>
    broken(
      "sit: shop\ndatabase: {url: postgresql:///shop, port: 5}\nstorages:\n  - {name: a b, kind: locl, path: /x}\n  - {name: b, kind: s3, bucket: x}\nminCopies: 0\ncompression: {codec: zip}\n",
      /^jbackup\.yaml has \d+ errors:\n(?=[\s\S]*line 1: unknown key "sit"; did you mean "site"\?)(?=[\s\S]*line 2: database: unknown key "port")(?=[\s\S]*line 4: .*unknown storage kind "locl"; kinds are local, s3 )(?=[\s\S]*line 6: minCopies)(?=[\s\S]*line 7: compression)/,
    ));
  test("with an unknown key says which was meant", () =>
    broken(
      "GOOD\nminCopie: 1\n",
      'jbackup.yaml has an error: line 6: unknown key "minCopie"; did you mean "minCopies"?',
    ));
  test("that asks for more copies than there are storages is refused", () =>
    broken(
      "GOOD\nminCopies: 3\n",
      "jbackup.yaml has an error: line 6: minCopies: 3 copies are wanted but only 2 storages are configured",
    ));
  test("that keeps two copies in one place is refused", () =>
    broken(
      "database: {url: postgresql:///x}\nstorages:\n  - {name: a, kind: local, path: /x/y}\n  - {name: b, kind: local, path: /x/./y/}\n",
      'jbackup.yaml has an error: line 4: storages[1]: the same place as storage "a": two copies there are lost together',
    ));
  test("without a database is refused", () =>
    broken("site: shop\n", "jbackup.yaml has an error: database: is required"));
  test("that is empty is refused", () => broken("", "jbackup.yaml has an error: database: is required"));
  test("that is a list is refused", () => broken("- a\n- b\n", /^jbackup\.yaml has an error: /));
});
