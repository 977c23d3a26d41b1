import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { serveRestored } from "../support/restored.js";
import { packagedServer } from "../support/servers.js";
import { makeSite, type TestSite } from "../support/site.js";

const packaged = await packagedServer();
const WAL_BLOCK_BYTES = 16_384;
const WAL_SEGMENT_BYTES = 16 * 2 ** 20;

/** The server's summaries are believed only as far as a backup that reads everything agrees with them. */
describe.runIf(packaged !== null && packaged.major >= 17)("an increment by WAL summaries", () => {
  let server: TestPostgres;
  let site: TestSite;
  let reading: string;

  beforeAll(async () => {
    server = await startPostgres({
      binDirectory: packaged?.binDirectory ?? "",
      initdb: ["-k"],
      settings: { wal_level: "replica", full_page_writes: "on", summarize_wal: "on", autovacuum: "off" },
    });
    const text = (more: string, folder: string): string =>
      `site: test\ndatabase: {url: "${server.url()}"${more}}\nstorages:\n  - {name: local, kind: local, path: ${join(folder, "local")}}\n`;
    site = await makeSite({ url: server.url() });
    await site.configure(text(`, binDirectory: "${packaged?.binDirectory}"`, site.folder));
    reading = join(site.folder, "reading.yaml");
    await writeFile(reading, text(", dataDirectory: stream", site.folder));
    await query(
      server.url(),
      "create table rows as select g as id, repeat(md5(g::text), 4) as text from generate_series(1, 100000) g",
      "create index on rows (id)",
      "create table emptied as select g as id from generate_series(1, 30000) g",
      "create table shrunk as select g as id, repeat('x', 100) as text from generate_series(1, 60000) g",
      "create table rewritten as select g as id from generate_series(1, 30000) g",
    );
    await site.json(["backup", "full"]);
  });

  afterAll(async () => {
    await site?.remove();
    await server?.stop();
  });

  test.each([
    ["nothing at all", ["checkpoint"]],
    ["some updates, in place and not", ["update rows set text = 'short' where id % 5003 = 1"]],
    ["a vacuum that cuts a table's end off", ["delete from shrunk where id > 20000", "vacuum shrunk"]],
    ["a truncated table", ["truncate emptied", "insert into emptied values (1)"]],
    ["a table that is written anew", ["vacuum full rewritten", "create index on rewritten (id)"]],
    ["a table that grows", ["insert into rows select g, md5(g::text) from generate_series(1, 40000) g"]],
    ["a database that is copied as files", ["create database copied template postgres strategy file_copy"]],
    [
      "a database that is copied through the WAL",
      ["create database logged template postgres strategy wal_log"],
    ],
    ["a dropped table and database", ["drop table emptied", "drop database copied"]],
  ])("after %s holds what one that reads everything holds", async (_, changes) => {
    for (const change of changes) await query(server.url(), change);
    const summed = await site.json(["backup", "full"]);
    expect(summed.metadata).toMatchObject({ incremental: true, comparedBy: "summaries" });
    const everything = await site.json(["backup", "full", "--config", reading]);
    expect(everything.metadata).toMatchObject({ incremental: true, reader: "stream" });
    // its own WAL, pg_control, and what the server itself wrote in between
    const segments =
      Math.floor(lsnOf(everything.metadata.endLsn) / WAL_SEGMENT_BYTES) -
      Math.floor(lsnOf(everything.metadata.startLsn) / WAL_SEGMENT_BYTES) +
      1;
    const ownBlocks = (segments * WAL_SEGMENT_BYTES) / WAL_BLOCK_BYTES;
    expect(everything.metadata.blocksStored - ownBlocks).toBeLessThanOrEqual(3);
  });

  test("reads little of a cluster that hardly changed", async () => {
    await query(server.url(), "update rows set text = 'once' where id = 77");
    const { metadata } = await site.json(["backup", "full"]);
    expect(metadata.readBytes).toBeLessThan(metadata.clusterBytes / 1.5);
    const everything = await site.json(["backup", "full", "--config", reading]);
    expect(everything.metadata.readBytes).toBeGreaterThanOrEqual(everything.metadata.clusterBytes);
  });

  test("comes back as it was at a moment behind the newest of them", async () => {
    const content =
      "select count(*)::text as rows, md5(string_agg(id || text, ',' order by id)) as digest from rows";
    const insert = (id: number): string => `insert into rows values (${id}, 'written behind the backup')`;
    await site.json(["backup", "wal"]);
    const base = await site.json(["backup", "full"]);
    expect(base.metadata.comparedBy).toBe("summaries");
    await query(server.url(), insert(-1));
    const expected = await query(server.url(), content);
    const [moment] = await query(
      server.url(),
      "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at",
    );
    await query(server.url(), insert(-2));
    await site.json(["backup", "wal"]);
    const folder = await mkdtemp(join(tmpdir(), "jbackup-summaries-"));
    await chmod(folder, 0o755);
    const directory = join(folder, "then");
    try {
      const done = await site.json([
        ...[
          "restore",
          "--mode",
          "pitr",
          "--to",
          moment?.at ?? "",
          "--into-dir",
          directory,
          "--reason",
          "test",
        ],
      ]);
      expect(done).toMatchObject({ backupId: base.id, status: "completed" });
      const restored = await serveRestored(directory, packaged?.binDirectory ?? "");
      try {
        expect(await query(restored.url(), content)).toEqual(expected);
      } finally {
        await restored.stop();
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

const lsnOf = (lsn: string): number => {
  const [high = "0", low = "0"] = lsn.split("/");
  return Number.parseInt(high, 16) * 2 ** 32 + Number.parseInt(low, 16);
};
