import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCatalog } from "../../src/catalog/catalogs.js";
import { systemClock } from "../../src/sys/clock.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { type CatalogPlace, catalogContract } from "./catalog.js";
import { backupNumber } from "./catalogRecords.js";

catalogContract("SQLite", async (): Promise<CatalogPlace> => {
  const directory = await mkdtemp(join(tmpdir(), "jbackup-catalog-"));
  const path = join(directory, "catalog.db");
  return {
    url: `sqlite:${path}`,
    table: (name) => name,
    run: async (statement) => {
      const database = new DatabaseSync(path);
      try {
        return database.prepare(statement).all();
      } finally {
        database.close();
      }
    },
    close: () => rm(directory, { recursive: true }),
  };
});

let server: TestPostgres;
let databases = 0;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server.stop());

const runOn = async (url: string, statement: string): Promise<Record<string, unknown>[]> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
  }
};

const freshDatabase = async (): Promise<string> => {
  const name = `catalog_${++databases}`;
  await runOn(server.url("postgres"), `create database ${name}`);
  return server.url(name);
};

catalogContract("PostgreSQL", async (): Promise<CatalogPlace> => {
  const url = await freshDatabase();
  return {
    url,
    table: (name) => `jbackup.${name}`,
    run: (statement) => runOn(url, statement),
    close: async () => {},
  };
});

describe("a catalog in PostgreSQL", () => {
  it("keeps to a schema of its own", async () => {
    const url = await freshDatabase();
    await (await openCatalog(url, { clock: systemClock })).close();
    const tables = await runOn(
      url,
      "select distinct schemaname from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    );
    expect(tables).toEqual([{ schemaname: "jbackup" }]);
  });

  it("survives that its server is restarted", async () => {
    const catalog = await openCatalog(await freshDatabase(), { clock: systemClock });
    await catalog.saveBackups([backupNumber(1)]);
    await server.restart("fast");
    expect(await catalog.backups()).toEqual([backupNumber(1)]);
    await catalog.close();
  });

  it("whose tables are gone says what to do", async () => {
    const url = await freshDatabase();
    const catalog = await openCatalog(url, { clock: systemClock });
    await runOn(url, "drop table jbackup.copies, jbackup.backups");
    await expect(catalog.backups()).rejects.toMatchObject({
      code: "catalog_unavailable",
      message: expect.stringMatching(/: relation "jbackup.backups" does not exist$/),
      hint: "Drop what is left of the schema jbackup, then run `jbackup catalog rebuild`.",
    });
    await catalog.close();
  });

  it("that is not there is named without the password", async () => {
    const place = new URL("postgresql://ops:pa%2Fss@127.0.0.1:1/shop?sslmode=disable");
    await expect(openCatalog(place.href, { clock: systemClock })).rejects.toMatchObject({
      code: "catalog_unavailable",
      message: "cannot use the catalog postgresql://ops@127.0.0.1:1/shop: connect ECONNREFUSED 127.0.0.1:1",
      hint: "Check catalog.url and that this server is up.",
    });
  });

  it("whose database is missing says what to do", async () => {
    await expect(openCatalog(server.url("nowhere"), { clock: systemClock })).rejects.toMatchObject({
      code: "catalog_unavailable",
      message: expect.stringMatching(
        /^cannot use the catalog postgresql:\/\/.*: database "nowhere" does not exist$/,
      ),
      hint: "Create that database, or name an existing one in catalog.url.",
    });
  });
});
