import { copyFileSync, existsSync, readdirSync, rmSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { type DiskFault, type FailingDisk, makeFailingDisk, whyNoDiskFails } from "../support/failingDisk.js";
import { brokenBackups, filesBelow } from "../support/files.js";
import { resume, runUntil } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { serveRestored } from "../support/restored.js";
import { makeSite, type Ran, type TestSite } from "../support/site.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";

const LOGICAL = ["backup", "full", "--logical"];
const PHYSICAL = ["backup", "full"];
const CONTENT =
  "select count(*)::text as rows, md5(string_agg(id || note, ',' order by id)) as digest from ledger";

let server: TestPostgres;
let folder: string;
let disk: FailingDisk | undefined;
/** One copy is enough for the first, the second asks for both. */
let site: TestSite;
let strict: TestSite;

const place = (of: TestSite, storage: string): string => join(of.folder, storage);
const twoStorages = (at: string): string[] =>
  ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(at, name)}}`);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-failing-disk-"));
  await chmod(folder, 0o755);
  server = await startPostgres({ initdb: ["--wal-segsize=1"], settings: { wal_level: "replica" } });
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table ledger as select g as id, md5(g::text) as note from generate_series(1, 5000) g",
  );
  const url = server.url("shop");
  site = await makeSite({ url, storages: twoStorages, more: ["minCopies: 1"] });
  strict = await makeSite({ url, name: "strict", storages: twoStorages, more: ["minCopies: 2"] });
  for (const one of [site, strict]) await one.json(LOGICAL);
  if (whyNoDiskFails === null) disk = makeFailingDisk();
});

afterAll(async () => {
  disk?.[Symbol.dispose]();
  await site?.remove();
  await strict?.remove();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** The command in a process whose calls fail. */
const runOn = (fault: DiskFault, of: TestSite, ...args: string[]): Promise<Ran> =>
  of.start([...args, "--json"], disk?.failing(fault));

const withoutNames = (files: string[]): string[] =>
  files.filter((file) => /manifest\.json$|~jbackup/.test(file));
const alertsOf = async (of: TestSite): Promise<string[]> =>
  (await of.json(["alerts"])).map(
    ({ type, storage }: { type: string; storage: string | null }) => `${type} ${storage}`,
  );
const copiesOf = async (of: TestSite, id: string): Promise<string[]> =>
  (await of.json(["show", id])).copies.map(
    ({ storage, status }: { storage: string; status: string }) => `${storage} ${status}`,
  );

describe("a storage whose disk does not keep what is written", () => {
  beforeEach((context) => {
    if (whyNoDiskFails !== null) context.skip(whyNoDiskFails);
  });

  test.each<[string, string[], Omit<DiskFault, "below">, RegExp]>([
    ["a file of a logical", LOGICAL, { call: "fsync", error: "EIO", ending: ".tmp" }, /i\/o error, fsync/],
    ["a file of a physical", PHYSICAL, { call: "fsync", error: "EIO", ending: ".tmp" }, /i\/o error, fsync/],
    ["a folder of a logical", LOGICAL, { call: "fsync", error: "EIO", ending: "/data" }, /i\/o error, fsync/],
    [
      "one file only of a logical",
      LOGICAL,
      { call: "fsync", error: "EIO", ending: ".tmp", times: 1 },
      /i\/o error, fsync/,
    ],
    [
      "a file, for want of quota, of a logical",
      LOGICAL,
      { call: "write", error: "EDQUOT", ending: ".tmp" },
      /disk quota exceeded, write/,
    ],
  ])(
    "%s backup misses that copy alone, says so, and gets it with the next one",
    async (_what, args, fault, why) => {
      const before = withoutNames(filesBelow(place(site, "two")));
      const ran = await runOn({ ...fault, below: place(site, "two") }, site, ...args);
      expect(ran.code, ran.stdout + ran.stderr).toBe(3);
      const partial = JSON.parse(ran.stdout);
      expect(await copiesOf(site, partial.id)).toEqual(["one stored", "two missing"]);
      expect(ran.stderr).toMatch(why);
      expect(ran.stderr).not.toContain("attempts in");
      expect(withoutNames(filesBelow(place(site, "two")))).toEqual(before);
      expect(await alertsOf(site)).toEqual(["COPY_MISSING two"]);
      await site.json(args);
      expect(await copiesOf(site, partial.id)).toEqual(["one stored", "two stored"]);
      expect(await alertsOf(site)).toEqual([]);
      expect(brokenBackups(place(site, "two"))).toEqual([]);
    },
  );

  test.each(["reserve", ".holder"])("a quota that refuses %s in the home stops nothing", async (ending) => {
    rmSync(join(site.home, "reserve"), { force: true });
    const ran = await runOn({ call: "write", error: "EDQUOT", below: site.home, ending }, site, ...LOGICAL);
    expect([ran.code, ran.stdout.includes('"completed"')]).toEqual([0, true]);
  });

  test("fails a backup that needs its copy, and nothing of that backup is left anywhere", async () => {
    const before = [...filesBelow(place(strict, "one")), ...filesBelow(place(strict, "two"))];
    const fault = { call: "fsync", error: "EIO", below: place(strict, "two"), ending: ".tmp" } as const;
    const ran = await runOn(fault, strict, ...LOGICAL);
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout).error).toMatchObject({
      code: "too_few_copies",
      message: expect.stringMatching(
        /^only 1 of the 2 copies that minCopies asks for can be stored \(two: storage two: put .* failed: EIO: i\/o error, fsync\)$/,
      ),
    });
    expect([...filesBelow(place(strict, "one")), ...filesBelow(place(strict, "two"))]).toEqual(before);
    expect((await strict.json(["list"]))[0]).toMatchObject({ status: "failed", copies: [] });
    expect(await alertsOf(strict)).toEqual(["BACKUP_FAILURE null"]);
    await strict.json(LOGICAL);
    expect(await alertsOf(strict)).toEqual([]);
  });

  test("takes no WAL for stored, neither new nor what stands there and may not last, and PostgreSQL keeps it", async () => {
    const [{ name } = { name: "" }] = await query(
      server.url("shop"),
      "select pg_walfile_name(pg_current_wal_lsn()) as name",
    );
    await query(
      server.url("shop"),
      "update ledger set note = note || '.' where id < 10",
      "select pg_switch_wal()",
    );
    const segment = join(folder, name);
    copyFileSync(join(server.dataDirectory, "pg_wal", name), segment);
    const push = ["wal", "push", segment];
    const failed = async (fault: Pick<DiskFault, "below" | "ending">): Promise<string> => {
      const ran = await runOn({ call: "fsync", error: "EIO", ...fault }, strict, ...push);
      expect(ran.code, ran.stdout + ran.stderr).toBe(1);
      return JSON.parse(ran.stdout).error.message;
    };
    expect(await failed({ below: place(strict, "two"), ending: ".tmp" })).toMatch(
      /^only 1 of the 2 copies .*two: .*i\/o error, fsync/,
    );
    // its name stands in the first one, put there a moment ago
    expect(await failed({ below: place(strict, "one"), ending: `/${name.slice(0, 16)}` })).toMatch(
      /one: .*i\/o error, fsync/,
    );
    await strict.json(push);
    const fetched = join(folder, "fetched");
    await strict.json(["wal", "fetch", name, fetched]);
    expect(existsSync(fetched)).toBe(true);
  });
});

test("a catalog whose disk does not keep what is written stops no backup, and catches up", async (context) => {
  if (whyNoDiskFails !== null) context.skip(whyNoDiskFails);
  const fault = { call: "fsync", error: "EIO", below: join(site.home, "catalog.db") } as const;
  const ran = await runOn(fault, site, ...LOGICAL);
  expect(ran.code, ran.stdout + ran.stderr).toBe(0);
  const { id } = JSON.parse(ran.stdout);
  const next = await site.json(LOGICAL);
  expect((await site.json(["list", "--limit", "2"])).map((one: { id: string }) => one.id)).toEqual([
    next.id,
    id,
  ]);
  expect(await copiesOf(site, id)).toEqual(["one stored", "two stored"]);
});

describe("a restore into a directory whose disk", () => {
  const restoreInto = (directory: string): string[] => [
    ...["restore", "latest", "--mode", "full", "--into-dir", directory],
    ...["--reason", "test"],
  ];

  async function expectUnfinished(directory: string): Promise<void> {
    expect(existsSync(join(directory, "global", "pg_control"))).toBe(false);
    expect(readdirSync(directory)).toContain("jbackup-restore.json");
    await expect(serveRestored(directory, server.binDirectory)).rejects.toThrow();
    expect((await site.json(["restores", "--limit", "1"]))[0]).toMatchObject({ status: "failed" });
  }

  async function expectGoesOn(directory: string): Promise<void> {
    expect(await site.json(restoreInto(directory))).toMatchObject({ status: "completed" });
    const restored = await serveRestored(directory, server.binDirectory);
    try {
      expect(await query(restored.url("shop"), CONTENT)).toEqual(await query(server.url("shop"), CONTENT));
    } finally {
      await restored.stop();
    }
  }

  beforeAll(async () => {
    await site.json(PHYSICAL);
  });

  test("does not keep what is written is never startable; what may be lost is not believed by the next run", async (context) => {
    if (whyNoDiskFails !== null) context.skip(whyNoDiskFails);
    const directory = join(folder, "failing");
    const fault = { call: "fsync", error: "EIO", below: `${directory}/base/`, times: 1 } as const;
    const ran = await runOn(fault, site, ...restoreInto(directory));
    expect(ran.code).toBe(1);
    const { error } = JSON.parse(ran.stdout);
    const [, path = ""] = /^cannot fsync (\/.*\/failing\/base\/.*): i\/o error$/.exec(error.message) ?? [];
    expect(path, error.message).not.toBe("");
    expect(error.hint).toMatch(/^the disk under .* fails: look into the kernel's log \(dmesg\)/);
    expect(existsSync(path)).toBe(false);
    await expectUnfinished(directory);
    await expectGoesOn(directory);
  });

  test("turns read-only is never startable", async (context) => {
    if (!canMount) context.skip("mounting takes root");
    using small = mountSmallDisk("200m");
    await chmod(small.path, 0o755);
    const directory = join(small.path, "data");
    const stopped = await runUntil(site, "files-created", [...restoreInto(directory), "--json"]);
    small.makeReadOnly();
    const ran = await resume(stopped);
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout).error.message).toMatch(/: read-only file system$/);
    await expectUnfinished(directory);
    small.makeWritable();
    await expectGoesOn(directory);
  });
});
