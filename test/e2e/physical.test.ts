import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StoredObject } from "../../src/domain/manifest.js";
import { backupPhysical } from "../../src/engine/backupPhysical.js";
import { findPhysical } from "../../src/engine/bases.js";
import { openChain, type PackSource } from "../../src/engine/files/chain.js";
import { WantedRuns } from "../../src/engine/files/runs.js";
import { restoreCluster } from "../../src/engine/restoreCluster.js";
import type { Site } from "../../src/engine/site.js";
import { query } from "../support/awkward.js";
import { countedSite, Served } from "../support/counted.js";
import { filesBelow } from "../support/files.js";
import { openTestSite } from "../support/openedSite.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import {
  checkFiles,
  checkPages,
  checkRelations,
  expectSameTotals,
  serveRestored,
} from "../support/restored.js";
import { makeSite, type TestSite } from "../support/site.js";

const MIB = 2 ** 20;

let server: TestPostgres;
let folder: string;
let site: TestSite;
/** Of the same site, for a server whose files cannot be read here. */
let streaming: (name: string) => Promise<string>;
let load: ChildProcess;

const sizes = async (sql: string): Promise<string> => (await query(server.url(), sql))[0]?.found ?? "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-physical-"));
  await chmod(folder, 0o755);
  server = await startPostgres({
    initdb: ["-k"],
    settings: { full_page_writes: "on", autovacuum_naptime: "1s", wal_level: "replica" },
  });
  const space = join(folder, "space");
  await mkdir(space);
  const { uid, gid } = await stat(server.dataDirectory);
  await chown(space, uid, gid);
  await query(
    server.url(),
    `create tablespace aside location '${space}'`,
    "create table moved tablespace aside as select g as id, md5(g::text) as text from generate_series(1, 20000) g",
    ...[0, 1, 2, 3].map((nth) => `create table turning_${nth} (noise bytea)`),
    "create unlogged table fleeting as select generate_series(1, 1000) as id",
    "create table quiet as select g as id, repeat('quiet ', 20) as text from generate_series(1, 5000) g",
  );
  const bench = (args: string[]) => spawn(join(server.binDirectory, "pgbench"), args, { stdio: "ignore" });
  await new Promise((resolve) => bench(["-i", "-q", "-s", "2", server.url()]).on("close", resolve));
  // enough to change something everywhere in every moment; as fast as it goes would be a test of patience
  load = bench(["-n", "-c", "3", "-R", "150", "-T", "600", server.url()]);
  site = await makeSite({ url: server.url() });
  streaming = async (name) => {
    const file = join(folder, `${name}.yaml`);
    await writeFile(
      file,
      `site: test\ndatabase: {url: "${server.url()}", dataDirectory: stream}\nstorages:\n  - {name: local, kind: local, path: ${join(site.folder, "local")}}\n`,
    );
    return file;
  };
});

afterAll(async () => {
  load?.kill("SIGTERM");
  await site?.remove();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** One of four tables is written anew, of what no compression makes smaller: what was stored of it before is not alive any more. */
const turn = (nth: number) =>
  query(
    server.url(),
    `truncate turning_${nth % 4}`,
    `insert into turning_${nth % 4} select (select string_agg(sha512((g || ' ' || h || random())::bytea), ''::bytea) from generate_series(1, 20) h) from generate_series(1, 2500) g`,
  );

/** No byte of a pack twice, and of each about what is alive in it: far less than the chain holds. */
async function expectReadOnce(opened: Site, reference: string, served: Served): Promise<void> {
  const chain = await openChain(opened, await findPhysical(opened, reference));
  const wanted = new WantedRuns();
  let files = 0;
  for await (const { record } of chain.map()) if (record.kind === "file") wanted.add(files++, 0, record.at);
  let [read, stored] = [0, 0];
  for (const runs of wanted.packs()) {
    const source = chain.sources[runs.source] as PackSource;
    const object = source.objects.get(opened.format.packName(runs.pack)) as StoredObject;
    const key = `${source.found.folder}/${object.name}`;
    const bytes = served.bytesOf(key);
    if (runs.source > 0) expect([key, served.againOf(key)]).toEqual([key, 0]);
    // frames of 1 MiB at both ends of what is alive, header and index; half alive or small is read whole
    const alive = runs.ranges(MIB).reduce((sum, { start, end }) => sum + end - start + 2 * MIB, 0);
    if (runs.source > 0) expect(bytes).toBeLessThanOrEqual(Math.max(2 * MIB, 2 * alive));
    read += bytes;
  }
  for (const path of filesBelow(join(site.folder, "local")))
    if (/\/data\/\d+\.jbk$/.test(path)) stored += statSync(path).size;
  expect(read).toBeLessThan(stored / 3);
}

let restores = 0;

const restoreByCommand = (reference: string, directory: string): Promise<void> =>
  site.json([
    "restore",
    reference,
    ...["--mode", "full", "--into-dir", directory, "--reason", "test"],
    ...["--tablespace", `aside=${directory}-space`],
  ]);

/** In this process, on storages that tell what was read from them. */
async function restoreCounted(opened: Site, reference: string, directory: string): Promise<Served> {
  const served = new Served();
  const tablespaces = { aside: `${directory}-space` };
  await restoreCluster(
    countedSite(opened, served),
    { reference, directory, tablespaces, to: null, delta: false, start: false, reason: "test" },
    async () => undefined,
  );
  return served;
}

/** Restores a backup into a directory of its own, and looks at the cluster from inside and outside. */
async function expectWhole(reference: string, restore = restoreByCommand): Promise<void> {
  const directory = join(folder, `restored-${++restores}`);
  await restore(reference, directory);
  checkFiles(directory, server.binDirectory);
  const restored = await serveRestored(directory, server.binDirectory);
  try {
    await expectSameTotals(restored.url());
    const [counts] = await query(
      restored.url(),
      "select (select count(*) from moved)::text as moved, (select count(*) from fleeting)::text as fleeting, (select count(*) from quiet)::text as quiet",
    );
    expect(counts).toEqual({ moved: "20000", fleeting: "0", quiet: "5000" });
    checkRelations(restored.url(), server.binDirectory);
  } finally {
    await restored.stop();
  }
  checkPages(directory, server.binDirectory);
  await rm(directory, { recursive: true });
}

describe("a cluster under load", () => {
  test("is backed up whole from its files", async () => {
    const backup = await site.json(["backup", "full"]);
    expect(backup).toMatchObject({ kind: "full", method: "physical", status: "completed", parentId: null });
    expect(backup.metadata).toMatchObject({
      reader: "files",
      takenOn: "primary",
      incremental: false,
      damagedPages: 0,
    });
    expect(backup.metadata.clusterBytes).toBeGreaterThan(45e6);
    expect(backup.metadata.startLsn < backup.metadata.endLsn).toBe(true);
    await expectWhole(backup.id);
  });

  test("is backed up over the replication protocol, on top of what was read from files", async () => {
    const backup = await site.json(["backup", "full", "--config", await streaming("on-top")]);
    expect(backup.metadata).toMatchObject({ reader: "stream", incremental: true, damagedPages: 0 });
    expect(backup.rawBytes).toBeLessThan(backup.metadata.clusterBytes / 1.2);
    await expectWhole(backup.id);
  });

  test("is backed up over the replication protocol from nothing", async () => {
    const backup = await site.json(["backup", "full", "--fresh", "--config", await streaming("fresh")]);
    expect(backup).toMatchObject({ parentId: null });
    expect(backup.metadata).toMatchObject({ reader: "stream", incremental: false, blocksReferenced: 0 });
    await expectWhole(backup.id);
  });

  test("is backed up thirty times in a row, each time only what changed; the first, a middle and the last restore, reading each block once", async () => {
    const ids: string[] = [];
    // one process for all: what a run takes to start is measured elsewhere
    const opened = await openTestSite(site);
    try {
      for (let nth = 0; nth < 30; nth++) {
        await turn(nth);
        const backup = await backupPhysical(opened, { fresh: false, note: `increment ${nth}` });
        expect(backup.metadata).toMatchObject({ incremental: true, damagedPages: 0 });
        expect(backup.metadata.blocksReferenced).toBeGreaterThan(0);
        expect(backup.metadata.blocksStored).toBeGreaterThan(0);
        ids.push(backup.id);
      }
      for (const nth of [0, 14]) await expectWhole(ids[nth] ?? "");
      const newest = ids[29] ?? "";
      let served = new Served();
      await expectWhole(newest, async (reference, directory) => {
        served = await restoreCounted(opened, reference, directory);
      });
      await expectReadOnce(opened, newest, served);
    } finally {
      await opened.close();
    }
  }, 600_000); // thirty runs under load, each a process of its own, on whatever machine this is
});

describe("what is left out", () => {
  test("temporary files, other versions' folders, the content of folders that belong to the running server", async () => {
    const { uid, gid } = await stat(server.dataDirectory);
    const database = await sizes("select oid::text as found from pg_database where datname = 'postgres'");
    const space = await sizes("select oid::text as found from pg_tablespace where spcname = 'aside'");
    const junk = [
      `base/${database}/t3_16500`,
      "base/pgsql_tmp/pgsql_tmp1.0",
      "pg_replslot/gone/state",
      `pg_tblspc/${space}/PG_99_1/1/1`,
    ];
    const kept = `base/${database}/of-nobody`;
    for (const name of [...junk, kept]) {
      const path = join(server.dataDirectory, name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, "junk");
      await chown(path, uid, gid);
    }
    const directory = join(folder, "left-out");
    try {
      await site.json(["backup", "full"]);
      await site.json([
        ...["restore", "latest", "--mode", "full", "--into-dir", directory, "--reason", "test"],
        ...["--tablespace", `aside=${directory}-space`],
      ]);
      const found = junk.filter((name) => existsSync(join(directory, name)));
      expect(found).toEqual([]);
      expect(existsSync(join(directory, kept))).toBe(true);
      for (const name of ["pg_wal/archive_status", "pg_replslot", "pg_notify"])
        expect(existsSync(join(directory, name))).toBe(true);
    } finally {
      await rm(join(server.dataDirectory, "pg_replslot/gone"), { recursive: true, force: true });
      for (const name of [...junk, kept]) await rm(join(server.dataDirectory, name), { force: true });
      await rm(directory, { recursive: true, force: true });
    }
  });
});

describe("a damaged page", () => {
  /** Turns one bit of a page that nobody changes, on disk. */
  async function damage(): Promise<{ path: string; block: number }> {
    await query(server.url(), "checkpoint");
    const path = await sizes("select pg_relation_filepath('quiet') as found");
    const file = await open(join(server.dataDirectory, path), "r+");
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, 3 * 8192 + 4000);
    byte[0] = (byte[0] as number) ^ 0x10;
    await file.write(byte, 0, 1, 3 * 8192 + 4000);
    await file.close();
    return { path, block: 3 };
  }

  test("is reported by file and page; the backup is kept and marked; the next one remembers; mended, the alert goes", async () => {
    const { path, block } = await damage();
    const told = `1 damaged pages in the cluster itself: ${path} page ${block}`;
    const backup = await site.json(["backup", "full"], [4]);
    expect(backup).toMatchObject({ status: "completed", metadata: { damagedPages: 1 } });
    expect(backup.warnings).toContain(told);
    const [alert] = await site.json(["alerts"]);
    expect(alert).toMatchObject({ type: "INTEGRITY_FAILURE", severity: "critical", backupId: backup.id });
    expect(alert.message).toContain(`page ${block} of ${path}`);

    const unread = await site.json(["backup", "full"], [4]);
    expect(unread.warnings).toContain(told);
    const streamed = await site.json(
      ["backup", "full", "--fresh", "--config", await streaming("damage")],
      [4],
    );
    expect(streamed.warnings).toContain(told);

    await damage(); // the same bit once more
    const sound = await site.json(["backup", "full"]);
    expect(sound.metadata.damagedPages).toBe(0);
    expect(await site.json(["alerts"])).toEqual([]);
  });
});

describe("a role that is no superuser", () => {
  /** A site of its own: a home is one site's. */
  async function withSiteOf(role: string, work: (own: TestSite) => Promise<void>): Promise<void> {
    const own = await makeSite({ url: server.url("postgres", role), name: role });
    try {
      await work(own);
    } finally {
      await own.remove();
    }
  }

  test("without the right of replication is refused before anything begins", async () => {
    await query(server.url(), "create role plain login");
    await withSiteOf("plain", async (own) => {
      const { error } = await own.json(["backup", "full"], [1]);
      expect(error).toMatchObject({
        code: "postgres_denied",
        message: "the role in database.url has no replication right, which a physical backup needs",
      });
    });
    expect(await sizes("select count(*)::text as found from pg_replication_slots")).toBe("0");
  });

  test("with the rights that the hint names makes backups, from files and over the protocol", async () => {
    await query(
      server.url(),
      "create role keeper login replication",
      "grant pg_read_all_settings to keeper",
      "grant execute on function pg_backup_start(text, boolean) to keeper",
      "grant execute on function pg_backup_stop(boolean) to keeper",
    );
    await withSiteOf("keeper", async (own) => {
      const files = await own.json(["backup", "full"]);
      expect(files.metadata.reader).toBe("files");
      const text = await readFile(own.configFile, "utf8");
      await own.configure(
        text.replace(/database: \{url: "(.*)"\}/, 'database: {url: "$1", dataDirectory: stream}'),
      );
      const stream = await own.json(["backup", "full"]);
      expect(stream.metadata).toMatchObject({ reader: "stream", incremental: true });
    });
  });
});

describe("a server that cannot be backed up", () => {
  test("a data directory that is not its own is refused", async () => {
    const file = join(folder, "elsewhere.yaml");
    await writeFile(
      file,
      `site: test\ndatabase: {url: "${server.url()}", dataDirectory: ${folder}}\nstorages:\n  - {name: local, kind: local, path: ${join(site.folder, "local")}}\n`,
    );
    const ran = await site.run("backup", "full", "--config", file, "--json");
    expect(ran.code).toBe(16);
    expect(JSON.parse(ran.stdout).error.message).toBe(
      `the data directory ${folder} cannot be read here, or is not that of the server`,
    );
  });

  test("with wal_level minimal, or without a free replication slot, it is refused", async () => {
    load.kill("SIGTERM");
    await query(server.url(), "alter system set max_replication_slots = 0");
    await server.restart();
    const slots = await site.run("backup", "full", "--json");
    expect(slots.code).toBe(16);
    await query(server.url(), "alter system set wal_level = minimal", "alter system set max_wal_senders = 0");
    await server.restart();
    const ran = await site.run("backup", "full", "--json");
    expect(ran.code).toBe(16);
    expect(JSON.parse(ran.stdout).error).toMatchObject({
      code: "environment",
      message: "wal_level is minimal: the files alone cannot be made consistent",
    });
    await query(server.url(), "alter system reset all");
  });
});
