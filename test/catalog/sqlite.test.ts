import { chmod, mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as pause } from "node:timers/promises";
import { CompiledQuery, Kysely, sql } from "kysely";
import { describe, expect, it, onTestFinished } from "vitest";
import { openCatalog } from "../../src/catalog/catalogs.js";
import { openSqlite } from "../../src/catalog/sqlite.js";
import { adapt, CatalogSqliteDialect } from "../../src/catalog/sqliteDialect.js";
import { systemClock } from "../../src/sys/clock.js";
import { backupNumber } from "../contract/catalogRecords.js";
import { temporaryDirectory } from "./places.js";

const clock = systemClock;
const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

describe("a catalog file", () => {
  it("and what stands beside it can be read by its owner only, as can its new directory", async () => {
    const before = process.umask(0);
    onTestFinished(() => void process.umask(before));
    const directory = join(await temporaryDirectory(), "new", "deeper");
    const catalog = await openCatalog(`sqlite:${directory}/catalog.db`, { clock });
    await catalog.saveBackups([backupNumber(1)]);
    const names = await readdir(directory);
    expect(names.sort()).toEqual(["catalog.db", "catalog.db-shm", "catalog.db-wal"]);
    for (const name of names) expect(await modeOf(join(directory, name))).toBe(0o600);
    expect(await modeOf(directory)).toBe(0o700);
    await catalog.close();
  });

  it("leaves the mode of a directory that was there", async () => {
    const directory = join(await temporaryDirectory(), "shared");
    await mkdir(directory);
    await chmod(directory, 0o755);
    await (await openCatalog(`sqlite:${directory}/catalog.db`, { clock })).close();
    expect(await modeOf(directory)).toBe(0o755);
  });

  it("is written safely: WAL, synchronous, foreign keys, and patience", async () => {
    const database = await openSqlite(`${await temporaryDirectory()}/catalog.db`, clock);
    const ask = async (pragma: string): Promise<unknown> => {
      const { rows } = await database.db.executeQuery(CompiledQuery.raw(`pragma ${pragma}`));
      return Object.values(rows[0] as object)[0];
    };
    expect(await ask("journal_mode")).toBe("wal");
    expect(await ask("synchronous")).toBe(2);
    expect(await ask("foreign_keys")).toBe(1);
    expect(await ask("busy_timeout")).toBe(10_000);
    await database.db.destroy();
  });

  it("that is not a database says so, and what to do", async () => {
    const path = `${await temporaryDirectory()}/catalog.db`;
    await writeFile(path, "something else\n".repeat(1_000));
    await expect(openCatalog(`sqlite:${path}`, { clock })).rejects.toMatchObject({
      code: "catalog_unavailable",
      message: `the catalog sqlite:${path} is damaged: file is not a database`,
      hint: "Move the damaged catalog away and run `jbackup catalog rebuild`, which reads it back from the manifests.",
    });
  });

  it("that is damaged further on says so when it is read", async () => {
    const path = `${await temporaryDirectory()}/catalog.db`;
    const catalog = await openCatalog(`sqlite:${path}`, { clock });
    await catalog.saveBackups(Array.from({ length: 500 }, (_, number) => backupNumber(number)));
    await catalog.close();
    const bytes = new Uint8Array((await stat(path)).size).fill(0x5a);
    const database = new DatabaseSync(path);
    const root = Number(
      database.prepare("select rootpage from sqlite_master where name = 'backups'").get()?.rootpage,
    );
    database.close();
    const { open } = await import("node:fs/promises");
    const file = await open(path, "r+");
    await file.write(bytes, 0, 4_096, (root - 1) * 4_096);
    await file.close();
    const damaged = await openCatalog(`sqlite:${path}`, { clock });
    await expect(damaged.backups()).rejects.toMatchObject({
      code: "catalog_unavailable",
      message: `the catalog sqlite:${path} is damaged: database disk image is malformed`,
    });
    await damaged.close();
  });

  it("that cannot be there says where", async () => {
    const directory = await temporaryDirectory();
    await writeFile(`${directory}/file`, "");
    await expect(openCatalog(`sqlite:${directory}/file/catalog.db`, { clock })).rejects.toMatchObject({
      code: "catalog_unavailable",
      message: expect.stringMatching(/^cannot open the catalog sqlite:.*\/file\/catalog\.db: E/),
      hint: "Check catalog.url, and that its directory exists and can be written.",
    });
  });

  it("that another process holds for long says so", async () => {
    const path = `${await temporaryDirectory()}/catalog.db`;
    const database = await openSqlite(path, clock);
    const other = new DatabaseSync(path);
    other.exec("begin immediate");
    await sql`pragma busy_timeout = 50`.execute(database.db);
    const failure = await sql`create table x (y)`.execute(database.db).catch(database.translate);
    expect(failure).toMatchObject({
      code: "catalog_unavailable",
      message: `the catalog sqlite:${path} does not work: database is locked`,
      hint: "Another process holds it for long: see who with `fuser`, then try again.",
    });
    other.close();
    await database.db.destroy();
  });
});

describe("two processes that migrate one catalog file", () => {
  it("do it one after the other", async () => {
    const path = `${await temporaryDirectory()}/catalog.db`;
    const [one, two] = [await openSqlite(path, clock), await openSqlite(path, clock)];
    const order: string[] = [];
    await Promise.all([
      one.migrating(async () => {
        order.push("one begins");
        await pause(60);
        order.push("one ends");
      }),
      two.migrating(async () => void order.push("two")),
    ]);
    expect(order).toEqual(["one begins", "one ends", "two"]);
    await Promise.all([one.db.destroy(), two.db.destroy()]);
  });
});

describe("the catalog in memory", () => {
  it("begins empty each time", async () => {
    const first = await openCatalog("sqlite::memory:", { clock });
    await first.saveBackups([backupNumber(1)]);
    expect(await first.backups()).toHaveLength(1);
    await first.close();
    const second = await openCatalog("sqlite::memory:", { clock });
    expect(await second.backups()).toEqual([]);
    await second.close();
  });
});

describe("Kysely on node:sqlite", () => {
  interface Things {
    things: { id: number; name: string | null };
  }
  const fresh = (): { raw: DatabaseSync; db: Kysely<Things> } => {
    const raw = new DatabaseSync(":memory:");
    raw.exec("create table things (id integer primary key, name text)");
    return { raw, db: new Kysely<Things>({ dialect: new CatalogSqliteDialect(raw, clock) }) };
  };

  it("tells questions from commands", () => {
    const { raw } = fresh();
    const { prepare } = adapt(raw);
    expect(prepare("select 1").reader).toBe(true);
    expect(prepare("insert into things values (1, 'a')").reader).toBe(false);
    expect(prepare("insert into things values (2, 'b') returning id").reader).toBe(true);
  });

  it("counts, returns and streams", async () => {
    const { db } = fresh();
    const inserted = await db
      .insertInto("things")
      .values([
        { id: 1, name: "a" },
        { id: 2, name: null },
      ])
      .executeTakeFirst();
    expect(inserted).toMatchObject({ numInsertedOrUpdatedRows: 2n, insertId: 2n });
    const removed = await db.deleteFrom("things").where("id", "=", 1).returningAll().execute();
    expect(removed).toEqual([{ id: 1, name: "a" }]);
    const streamed = [];
    for await (const thing of db.selectFrom("things").selectAll().stream()) streamed.push(thing);
    expect(streamed).toEqual([{ id: 2, name: null }]);
  });

  it("takes the write lock when a transaction begins, unless it only reads", async () => {
    const { raw, db } = fresh();
    const begun: boolean[] = [];
    await db.transaction().execute(async () => void begun.push(raw.isTransaction));
    const path = `${await temporaryDirectory()}/catalog.db`;
    const [one, two] = [await openSqlite(path, clock), new DatabaseSync(path, { timeout: 0 })];
    await one.db.transaction().execute(async () => {
      expect(() => two.exec("begin immediate")).toThrow("database is locked");
    });
    await one.db
      .transaction()
      .setAccessMode("read only")
      .execute(async () => two.exec("begin immediate; rollback"));
    expect(begun).toEqual([true]);
    two.close();
    await one.db.destroy();
  });

  it("takes back a transaction that fails", async () => {
    const { db } = fresh();
    const failing = db.transaction().execute(async (transaction) => {
      await transaction.insertInto("things").values({ id: 1, name: "a" }).execute();
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    expect(await db.selectFrom("things").selectAll().execute()).toEqual([]);
  });
});

it("where no folder can be made, says so instead of trying for ever", async () => {
  await expect(openCatalog("sqlite:/proc/nowhere/catalog.db", { clock: systemClock })).rejects.toMatchObject({
    code: "catalog_unavailable",
  });
});
