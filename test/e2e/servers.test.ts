import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres } from "../support/postgres.js";
import { serveRestored } from "../support/restored.js";
import { serversUnderTest } from "../support/servers.js";
import { makeSite } from "../support/site.js";

const cleanUp: (() => Promise<unknown>)[] = [];

afterAll(async () => {
  for (const step of cleanUp.reverse()) await step();
});

const CONTENT =
  "select 'big' as name, count(*)::text as rows, md5(string_agg(id || ':' || note, ',' order by id)) as digest from big union all select 'small', count(*)::text, md5(string_agg(id || ':' || note, ',' order by id)) from small order by 1";

describe.each(await serversUnderTest())("PostgreSQL $major", ({ major, binDirectory }) => {
  test("increments, WAL and a recovery to the end bring back every row", async () => {
    const hasSummaries = major >= 17;
    const server = await startPostgres({
      binDirectory,
      initdb: ["-k"],
      settings: {
        wal_level: "replica",
        full_page_writes: "on",
        ...(hasSummaries ? { summarize_wal: "on" } : {}),
      },
    });
    cleanUp.push(() => server.stop());
    const folder = await mkdtemp(join(tmpdir(), "jbackup-servers-"));
    await chmod(folder, 0o755);
    cleanUp.push(() => rm(folder, { recursive: true, force: true }));
    await query(
      server.url(),
      "create table big as select g as id, repeat(md5(g::text), 8) as note from generate_series(1, 120000) g",
      "create index on big (id)",
      "create table small as select g as id, 'n' || g as note from generate_series(1, 50) g",
      "checkpoint",
    );
    const site = await makeSite({ url: server.url() });
    cleanUp.push(() => site.remove());
    await site.configure(
      [
        "site: test",
        `database: {url: "${server.url()}", binDirectory: "${binDirectory}"}`,
        "storages:",
        `  - {name: local, kind: local, path: ${join(site.folder, "local")}}`,
        "",
      ].join("\n"),
    );
    await site.json(["backup", "wal"]);
    const whole = await site.json(["backup", "full"]);
    expect(whole.metadata).toMatchObject({ incremental: false, comparedBy: null });
    for (let round = 1; round <= 3; round++) {
      await query(
        server.url(),
        `update big set note = 'round ${round}' where id % 20011 = ${round}`,
        `insert into small select g, 'more' from generate_series(${round * 1000}, ${round * 1000 + 10}) g`,
        `delete from big where id = ${round * 7}`,
      );
      const increment = await site.json(["backup", "full"]);
      expect(increment.metadata).toMatchObject({
        incremental: true,
        comparedBy: hasSummaries ? "summaries" : "fingerprints",
      });
      expect(increment.storedBytes).toBeLessThan(whole.storedBytes / 2);
    }
    await query(server.url(), "truncate small; insert into small values (1, 'after the last backup')");
    await query(server.url(), "create table late as select 1 as id");
    await site.json(["backup", "wal"]);
    const expected = await query(server.url(), CONTENT);

    const directory = join(folder, "restored");
    await site.json([
      ...["restore", "--mode", "pitr", "--to", "latest", "--into-dir", directory, "--reason", "test"],
    ]);
    const restored = await serveRestored(directory, binDirectory);
    try {
      expect(await query(restored.url(), CONTENT)).toEqual(expected);
      expect(await query(restored.url(), "select id::text as id from late")).toEqual([{ id: "1" }]);
    } finally {
      await restored.stop();
    }
  });
});
