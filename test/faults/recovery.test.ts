import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  open,
  readdir,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { killAt, resume, runUntil } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { serveRestored } from "../support/restored.js";
import { ownTemporary } from "../support/runbooks.js";
import { packagedServer } from "../support/servers.js";
import { BIN, makeSite, type TestSite } from "../support/site.js";
import { CLUSTER_STEPS, SCRATCH_STEPS, WAL_STEPS } from "../support/steps.js";
import { canMount, mountSmallDisk } from "../support/tmpfs.js";

let server: TestPostgres;
let site: TestSite;
let folder: string;
let expected: unknown;

const CONTENT =
  "select count(*)::text as rows, md5(string_agg(id || note, ',' order by id)) as digest from ledger";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-recovery-"));
  await chmod(folder, 0o755);
  server = await startPostgres({
    initdb: ["-k"],
    settings: { wal_level: "replica", full_page_writes: "on" },
  });
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table ledger as select g as id, md5(g::text) as note from generate_series(1, 30000) g; alter table ledger add primary key (id)",
  );
  site = await makeSite({
    url: server.url("shop"),
    storages: (place) => [
      `- {name: one, kind: local, path: ${join(place, "one")}}`,
      `- {name: two, kind: local, path: ${join(place, "two")}}`,
    ],
  });
  ownTemporary(site, folder);
  await site.json(["backup", "wal"]);
  await site.json(["backup", "full"]);
  await query(
    server.url("shop"),
    "insert into ledger select g, 'later' from generate_series(30001, 30500) g",
  );
  await site.json(["backup", "full"]);
  await query(server.url("shop"), "insert into ledger values (99999, 'last')");
  await site.json(["backup", "wal"]);
  expected = await query(server.url("shop"), CONTENT);
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const intoDirectory = (directory: string, ...more: string[]): string[] => [
  ...["restore", "latest", "--mode", "pitr", "--to", "latest", "--into-dir", directory],
  ...["--reason", "test", ...more],
];

async function contentIn(directory: string): Promise<unknown> {
  const restored = await serveRestored(directory, server.binDirectory);
  try {
    return await query(restored.url("shop"), CONTENT);
  } finally {
    await restored.stop();
  }
}

const refusal = async (
  ...args: string[]
): Promise<{ code: number | null; message: string; hint: string }> => {
  const ran = await site.run(...args, "--json");
  const { error } = JSON.parse(ran.stdout);
  return { code: ran.code, message: error.message, hint: error.hint };
};

describe("a recovery killed at", () => {
  test.each(CLUSTER_STEPS)("%s never looks finished, and can be run again", async (step) => {
    const directory = join(folder, `killed-${step}`);
    await killAt(site, step, intoDirectory(directory));
    if (step !== "restore-recorded") expect(readdirSync(directory)).toContain("jbackup-restore.json");
    const done = await site.json(intoDirectory(directory));
    expect(done.status).toBe("completed");
    expect(await contentIn(directory)).toEqual(expected);
    expect(readdirSync(directory)).not.toContain("jbackup-restore.json");
    const [last, killed] = await site.json(["restores", "--limit", "2"]);
    expect([last.status, killed.status]).toEqual(["completed", "failed"]);
    await rm(directory, { recursive: true });
  });

  test.each(SCRATCH_STEPS)(
    "%s leaves something of a scratch server, which the next run removes",
    async (step) => {
      const merge = ["restore", "latest", "--mode", "merge", "--reason", "test"];
      const before = new Set(await scratchFolders());
      await killAt(site, step, merge);
      const left = (await scratchFolders()).filter((name) => !before.has(name));
      expect(left).toHaveLength(1);
      await site.json(merge);
      expect(await scratchFolders()).not.toContain(left[0]);
    },
  );

  test.each(WAL_STEPS)("archiving killed at %s loses nothing", async (step) => {
    await query(server.url("shop"), "update ledger set note = 'changed' where id = 1");
    await killAt(site, step, ["backup", "wal"]);
    await query(server.url("shop"), "update ledger set note = 'changed again' where id = 2");
    await site.json(["backup", "wal"]);
    expected = await query(server.url("shop"), CONTENT);
    const directory = join(folder, "after-wal-kill");
    await site.json(intoDirectory(directory));
    expect(await contentIn(directory)).toEqual(expected);
    await rm(directory, { recursive: true });
  });
});

const scratchFolders = async (): Promise<string[]> =>
  (await readdir(join(folder, "tmp"))).filter((name) => /^jbackup-(scratch|begun)-/.test(name));

test.runIf(process.getuid?.() === 0)(
  "whoever owns the directory's place cannot make root write elsewhere by a link that he puts there meanwhile",
  async () => {
    const { uid, gid } = statSync(server.dataDirectory);
    const asOwner = (script: string): string =>
      execFileSync("sh", ["-c", script], { uid, gid, encoding: "utf8" });
    const parent = join(folder, "theirs");
    const outside = join(folder, "roots-own");
    for (const path of [parent, outside]) await mkdir(path);
    await chown(parent, uid, gid);
    const directory = join(parent, "data");
    const plain = ["restore", "latest", "--into-dir", directory, "--reason", "test"];
    const stopped = await runUntil(site, "files-created", [...plain, "--json"]);
    expect(() => asOwner(`ln -s ${outside} ${directory}/planted`)).toThrow(/Permission denied/);
    asOwner(`mv ${directory} ${directory}-aside && ln -s ${outside} ${directory}`);
    const ran = await resume(stopped);
    expect(ran.code).toBe(14);
    expect(JSON.parse(ran.stdout).error.message).toBe(
      `${directory} is not the directory any more that it was a moment ago`,
    );
    expect(readdirSync(outside)).toEqual([]);
    expect(statSync(outside).uid).toBe(0);
    await rm(parent, { recursive: true });
  },
);

describe("onto a directory that is there", () => {
  test("only what differs is written, and what does not belong goes", async () => {
    const directory = join(folder, "delta");
    const plain = ["restore", "latest", "--into-dir", directory, "--reason", "test"];
    await site.json(plain);
    const base = join(directory, "base");
    const largest = readdirSync(base)
      .flatMap((oid) => readdirSync(join(base, oid)).map((name) => join(base, oid, name)))
      .toSorted((a, b) => statSync(b).size - statSync(a).size)[0] as string;
    const file = await open(largest, "r+");
    await file.write(Buffer.alloc(100, 1), 0, 100, 8192 * 3 + 50);
    await file.close();
    await truncate(join(directory, "global", "pg_filenode.map"), 10);
    await writeFile(join(base, "stranger"), "not of the cluster");
    const outside = join(folder, "outside");
    await mkdir(outside);
    await writeFile(join(outside, "kept"), "not of the cluster either");
    await rm(join(directory, "pg_subtrans"), { recursive: true });
    await symlink(outside, join(directory, "pg_subtrans"));
    await symlink(join(outside, "kept"), join(directory, "global", "pg_control.jbackup"));
    if (process.getuid?.() === 0) {
      const wal = join(directory, "pg_wal");
      await rename(wal, `${wal}-aside`);
      await symlink(outside, wal);
      const foreign = await refusal(...plain, "--delta", "--confirm", directory);
      expect([foreign.code, foreign.message]).toEqual([
        14,
        `${wal} is a link to a directory that does not belong to the owner of the cluster`,
      ]);
      expect(existsSync(join(base, "stranger"))).toBe(true);
      await rm(wal);
      await rename(`${wal}-aside`, wal);
    }
    const asked = await refusal(...plain, "--delta");
    expect(asked.code).toBe(13);
    expect(asked.hint).toContain("--confirm");

    const done = await site.json([...plain, "--delta", "--confirm", directory]);
    expect(done.metadata.keptBytes).toBeGreaterThan(done.metadata.bytes * 0.99);
    expect(done.metadata.keptBytes).toBeLessThan(done.metadata.bytes);
    expect(existsSync(join(base, "stranger"))).toBe(false);
    expect(lstatSync(join(directory, "pg_subtrans")).isDirectory()).toBe(true);
    expect(readFileSync(join(outside, "kept"), "utf8")).toBe("not of the cluster either");
    expect(statSync(outside).uid).toBe(process.getuid?.());
    const restored = await serveRestored(directory, server.binDirectory);
    try {
      const [row] = await query(restored.url("shop"), "select count(*)::text as rows from ledger");
      expect(row?.rows).toBe("30500");
    } finally {
      await restored.stop();
    }
  });

  test.each([
    ["not empty", "x", (at: string) => writeFile(join(at, "file"), "x"), [], /is not empty/],
    [
      "no cluster",
      "y",
      (at: string) => writeFile(join(at, "file"), "x"),
      ["--delta"],
      /holds files, but no PostgreSQL cluster/,
    ],
    [
      "another cluster",
      "z",
      (at: string) => foreignControl(at),
      ["--delta"],
      /holds the cluster 72340172838076673/,
    ],
  ])("%s is refused", async (_what, name, fill, flags, message) => {
    const directory = join(folder, `refused-${name}`);
    await mkdir(directory);
    await fill(directory);
    const before = await readdir(directory);
    const refused = await refusal(...intoDirectory(directory, ...flags));
    expect(refused.code).toBe(14);
    expect(refused.message).toMatch(message);
    expect(await readdir(directory)).toEqual(before);
  });

  test("a running server is refused", async () => {
    const refused = await refusal(...intoDirectory(server.dataDirectory, "--delta"));
    expect(refused).toMatchObject({ code: 14 });
    expect(refused.message).toMatch(/a PostgreSQL server \(process \d+\) runs on/);
  });

  test.runIf(canMount)("too little space is refused with the sizes", async () => {
    using disk = mountSmallDisk("20m");
    const refused = await refusal(...intoDirectory(join(disk.path, "data")));
    expect(refused.code).toBe(16);
    expect(refused.message).toMatch(/needs \d.* GB in .*, where 0.02 GB are free/);
  });
});

test("a disk that takes no more ends a restore, and run again with room it goes on", async () => {
  const directory = join(folder, "full-disk");
  const args = [BIN, "restore", "latest", "--into-dir", directory, "--reason", "test", "--json"];
  const limited = spawnSync("prlimit", ["--fsize=1000000", process.execPath, ...args], {
    env: site.environment,
    encoding: "utf8",
  });
  expect(limited.status).toBe(16);
  const { error } = JSON.parse(limited.stdout);
  expect(error.code).toBe("no_space");
  expect(error.message).toMatch(/^cannot write .*\/full-disk\/.*: file too large$/);
  expect(error.hint).toMatch(/^make room where .* is, then run it again$/);
  expect(limited.stderr).toContain("is half-restored: the same command, given again, goes on with it");
  expect(existsSync(join(directory, "global", "pg_control"))).toBe(false);

  const done = await site.json(args.slice(1, -1));
  expect(done.status).toBe("completed");
  const restored = await serveRestored(directory, server.binDirectory);
  try {
    const [row] = await query(restored.url("shop"), "select count(*)::text as rows from ledger");
    expect(row?.rows).toBe("30500");
  } finally {
    await restored.stop();
  }
});

const foreignControl = async (at: string): Promise<void> => {
  await mkdir(join(at, "global"));
  await writeFile(join(at, "global", "pg_control"), Buffer.alloc(8192, 1));
};

test("server programs of another version are refused before anything is written", async () => {
  const other = await packagedServer();
  if (other === null) return;
  const text = [
    "site: test",
    `database: {url: "${server.url("shop")}", binDirectory: "${other.binDirectory}"}`,
    "storages:",
    `  - {name: one, kind: local, path: ${join(site.folder, "one")}}`,
    "",
  ].join("\n");
  const file = join(folder, "other.yaml");
  await writeFile(file, text, { mode: 0o600 });
  const directory = join(folder, "other-version");
  const refused = await refusal("--config", file, ...intoDirectory(directory));
  expect(refused.code).toBe(16);
  expect(refused.message).toContain(`on this machine are of: ${other.major}`);
  expect(existsSync(directory)).toBe(false);
});

test("recover.mjs alone brings the cluster back from one storage, over a chain of increments", async () => {
  const [latest] = await site.json(["list", "--kind", "full", "--limit", "1"]);
  expect(latest.parentId).not.toBe(null);
  const keys = join(site.home, "keys");
  const out = join(folder, "by-hand");
  const script = fileURLToPath(new URL("../../bin/recover.mjs", import.meta.url));
  const signer = readFileSync(join(keys, "signer"), "utf8").trim();
  execFileSync(
    process.execPath,
    [
      script,
      ...["open", join(site.folder, "two", latest.copies[0].path)],
      ...["--identity", join(keys, "identity"), "--signer", signer, "--out", out],
    ],
    { stdio: "pipe" },
  );
  const { uid, gid } = statSync(server.dataDirectory);
  execFileSync("chown", ["-R", `${uid}:${gid}`, out]);
  const restored = await serveRestored(out, server.binDirectory);
  try {
    const [row] = await query(
      restored.url("shop"),
      "select count(*)::text as rows, md5(string_agg(id::text, ',' order by id)) as ids from ledger",
    );
    expect(row?.rows).toBe("30500");
  } finally {
    await restored.stop();
  }
});

test("after a rotation of keys, WAL goes on being archived and opened", async () => {
  const rotated = await site.json(["keys", "rotate"]);
  expect(rotated.failed).toEqual([]);
  await query(server.url("shop"), "insert into ledger values (100000, 'after the rotation')");
  await site.json(["backup", "wal"]);
  expected = await query(server.url("shop"), CONTENT);
  const directory = join(folder, "after-rotation");
  await site.json(intoDirectory(directory));
  expect(await contentIn(directory)).toEqual(expected);
});

test("a copy that is damaged is left for the other storage's, and told", async () => {
  const backups = join(site.folder, "one", "backups", "full");
  const packs = (await readdir(backups, { recursive: true })).filter((name) => /data\/\d+\.jbk$/.test(name));
  for (const pack of packs) {
    const file = await open(join(backups, pack), "r+");
    await file.write(Buffer.alloc(64), 0, 64, 5000);
    await file.close();
  }
  const directory = join(folder, "from-the-other");
  await site.json(intoDirectory(directory));
  expect(await contentIn(directory)).toEqual(expected);
  const alerts = await site.json(["alerts"]);
  expect(
    alerts.map(({ type, storage }: { type: string; storage: string }) => [type, storage]),
  ).toContainEqual(["INTEGRITY_FAILURE", "one"]);
});
