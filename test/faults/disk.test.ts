import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { brokenBackups, filesBelow } from "../support/files.js";
import { resume, runUntil } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type SiteOptions, type TestSite } from "../support/site.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";

let server: TestPostgres;
let content: Record<string, string>;
const BACKUP = ["backup", "full", "--logical"];
const RESTORE = ["restore", "--reason", "test", "--confirm", "shop"];

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text) as note from generate_series(1, 200000) g",
  );
  content = await contentOf(server.url("shop"));
});

afterAll(async () => {
  await server?.stop();
});

async function withSite(options: Omit<SiteOptions, "url">, work: (site: TestSite) => Promise<void>) {
  const site = await makeSite({ url: server.url("shop"), ...options });
  try {
    await work(site);
  } finally {
    await site.remove();
  }
}

async function expectRestorable(site: TestSite, reference: string): Promise<void> {
  await site.json(["restore", reference, "--into-db", "proof", "--reason", "proof"]);
  const { database: _, ...rows } = await contentOf(server.url("proof"));
  await query(server.url(), "drop database proof");
  const { database: __, ...expected } = content;
  expect(rows).toEqual(expected);
}

const local = (name: string, path: string): string => `- {name: ${name}, kind: local, path: ${path}}`;

const MIB = 2 ** 20;

describe.runIf(canMount)("a storage whose disk fills midway", () => {
  test("alone fails the backup, and keeps no part of it", async () => {
    using disk = mountSmallDisk("20m");
    const uncompressed = {
      storages: () => [local("small", disk.path)],
      more: ["compression: {codec: none}"],
    };
    await withSite(uncompressed, async (site) => {
      const ran = await site.run(...BACKUP, "--json");
      expect(ran.code).toBe(1);
      expect(ran.stderr).toMatch(/storage small has 0\.\d+ GB free for a database of 0\.\d+ GB/);
      expect(JSON.parse(ran.stdout).error).toMatchObject({
        code: "too_few_copies",
        message: expect.stringMatching(/^only 0 of the 1 copies .*small: .*(full|no space)/i),
      });
      const left = filesBelow(disk.path).filter((file) => !file.endsWith("jbackup-site.json"));
      expect(left).toEqual([]);
      expect(await site.json(["list"])).toMatchObject([{ status: "failed", copies: [] }]);
      expect(await site.json(["alerts"])).toMatchObject([{ type: "BACKUP_FAILURE", severity: "critical" }]);
      disk.grow("200m");
      const { id } = await site.json(BACKUP);
      await expectRestorable(site, id);
      expect(await site.json(["alerts"])).toEqual([]);
    });
  });

  test("among others costs only its own copy", async () => {
    using disk = mountSmallDisk("20m");
    const options = {
      storages: (folder: string) => [local("small", disk.path), local("large", join(folder, "large"))],
      more: ["compression: {codec: none}", "minCopies: 1"],
    };
    await withSite(options, async (site) => {
      const partial = await site.json(BACKUP, [3]);
      expect(partial.copies).toMatchObject([
        { storage: "small", status: "missing" },
        { storage: "large", status: "stored" },
      ]);
      expect(filesBelow(disk.path).filter((file) => /manifest\.json$|~jbackup/.test(file))).toEqual([]);
      expect(brokenBackups(join(site.folder, "large"))).toEqual([]);
      expect(await site.json(["alerts"])).toMatchObject([{ type: "COPY_MISSING", storage: "small" }]);
      await expectRestorable(site, partial.id);
      disk.grow("300m");
      const next = await site.json(BACKUP);
      const listed = await site.json(["list"]);
      expect(
        listed.flatMap(({ copies }: { copies: { status: string }[] }) => copies.map(({ status }) => status)),
      ).toEqual(["stored", "stored", "stored", "stored"]);
      expect(brokenBackups(disk.path)).toEqual([]);
      rmSync(join(site.folder, "large"), { recursive: true });
      await expectRestorable(site, partial.id);
      await expectRestorable(site, next.id);
    });
  });
});

describe.runIf(canMount)("a home whose disk is full", () => {
  test("refuses a restore before anything is fetched, with the sizes", async () => {
    using disk = mountSmallDisk("12m");
    const elsewhere = { environment: { JBACKUP_HOME: disk.path } };
    await withSite(elsewhere, async (site) => {
      const { id } = await site.json(BACKUP);
      const { error } = await site.json(RESTORE, [16]);
      expect(error).toMatchObject({
        code: "no_space",
        message: expect.stringMatching(
          /^the opened dump needs 0\.\d\d GB in .*\/tmp, where 0\.\d\d GB are free$/,
        ),
      });
      expect(await contentOf(server.url("shop"))).toEqual(content);
      expect(await site.json(["restores"])).toEqual([]);
      disk.grow("200m");
      await expectRestorable(site, id);
    });
  });

  test("to the last byte still lets the other storages have their backups and WAL, and clean-up and physical restores run", async () => {
    using disk = mountSmallDisk("64m");
    const options = {
      environment: { JBACKUP_HOME: join(disk.path, "home") },
      storages: (folder: string) => [
        local("same", join(disk.path, "same")),
        local("left", join(folder, "left")),
        local("right", join(folder, "right")),
      ],
      more: ["minCopies: 2", "retention: {left: {last: 2}}"],
    };
    await withSite(options, async (site) => {
      await site.json(BACKUP);
      await site.json(["backup", "wal"]);
      const filler = join(disk.path, "filler");
      const file = openSync(filler, "w");
      expect(() => {
        for (;;) writeSync(file, Buffer.alloc(4096));
      }).toThrow("ENOSPC");
      closeSync(file);

      const full = await site.run("backup", "full", "--fresh", "--json");
      expect([full.code, full.stderr]).toEqual([
        3,
        expect.stringContaining("goes on with the room that was kept in reserve"),
      ]);
      expect(JSON.parse(full.stdout).copies).toMatchObject([
        { storage: "same", status: "missing" },
        { storage: "left", status: "stored" },
        { storage: "right", status: "stored" },
      ]);
      await query(server.url("shop"), "select pg_switch_wal()");
      await site.json(["backup", "wal"], [0, 3]);
      await site.json(["cleanup"], [0, 3]);
      await site.json(["verify", "--all"], [0, 3, 4]);
      const target = join(site.folder, "target");
      const { id } = JSON.parse(full.stdout);
      await site.json(["restore", id, "--into-dir", target, "--reason", "test"]);
      expect(readFileSync(join(target, "PG_VERSION"), "utf8")).toBe(
        readFileSync(join(server.dataDirectory, "PG_VERSION"), "utf8"),
      );

      rmSync(filler);
      await site.json(BACKUP);
      const listed = await site.json(["list", "--kind", "full"]);
      expect(listed).toHaveLength(3);
      expect(listed[1]).toMatchObject({ id, copies: [{ status: "stored" }, {}, {}] }); // healed
      expect(listed[0].status).toBe("completed");
      await expectRestorable(site, listed[0].id);
    });
  });

  test("in the middle of a restore fails it, and leaves the live database alone", async () => {
    using disk = mountSmallDisk("64m");
    const catalog = join(disk.path, "../catalog-of-disk-test.db");
    const elsewhere = {
      environment: { JBACKUP_HOME: disk.path },
      storages: (folder: string) => [local("local", join(folder, "local"))],
      more: [`catalog: {url: "sqlite:${catalog}"}`],
    };
    await withSite(elsewhere, async (site) => {
      await site.json(BACKUP);
      const stopped = await runUntil(site, "restore-recorded", [...RESTORE, "--json"]);
      const filler = join(disk.path, "filler");
      writeFileSync(filler, Buffer.alloc(50 * MIB));
      const ran = await resume(stopped);
      expect(ran.code).toBe(16);
      expect(JSON.parse(ran.stdout).error.message).toMatch(/no space left on device/);
      expect(await contentOf(server.url("shop"))).toEqual(content);
      expect((await site.json(["restores"]))[0]).toMatchObject({ status: "failed" });
      expect(await query(server.url(), "select 1 from pg_database where datname ~ '_jbackup_'")).toEqual([]);
      rmSync(filler);
      await expectRestorable(site, "latest");
    });
    for (const part of ["", "-wal", "-shm"]) rmSync(`${catalog}${part}`, { force: true });
  });

  test("after the manifests were written leaves a whole backup", async () => {
    using disk = mountSmallDisk("8m");
    const options = {
      environment: { JBACKUP_HOME: disk.path },
      storages: (folder: string) => [local("local", join(folder, "local"))],
    };
    await withSite(options, async (site) => {
      await site.json(BACKUP);
      const stopped = await runUntil(site, "settled", [...BACKUP, "--json"]);
      const filler = join(disk.path, "filler");
      expect(() => writeFileSync(filler, Buffer.alloc(8 * MIB))).toThrow("ENOSPC"); // to the last byte
      const ran = await resume(stopped);
      expect(brokenBackups(join(site.folder, "local"))).toEqual([]);
      const manifests = filesBelow(join(site.folder, "local")).filter((file) => /manifest\.json$/.test(file));
      expect(manifests).toHaveLength(2);
      expect({ code: ran.code, told: ran.stderr }).toEqual({
        code: 0,
        told: expect.stringContaining("the end of the chain of manifests could not be noted"),
      });
      rmSync(filler);
      disk.grow("200m");
      const ids = manifests.map((file) => JSON.parse(readFileSync(file, "utf8")).body.backupId);
      await site.json(BACKUP);
      const listed = (await site.json(["list"])).map(({ id, status }: { id: string; status: string }) => ({
        id,
        status,
      }));
      for (const id of ids) expect(listed).toContainEqual({ id, status: "completed" });
      for (const id of ids) await expectRestorable(site, id);
    });
  });
});
