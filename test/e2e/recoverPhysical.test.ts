import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import {
  appendFile,
  chmod,
  chown,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { checkPages, checkRelations, serveRestored } from "../support/restored.js";
import { makeSite, type TestSite } from "../support/site.js";

const RECOVER = fileURLToPath(new URL("../../bin/recover.mjs", import.meta.url));
const CONTENT =
  "select (select string_agg(id || text, ',' order by id) from moved) as moved, (select sum(id)::text from kept) as kept, (select string_agg(id::text, ',' order by id) from ticks) as ticks";

let server: TestPostgres;
let folder: string;
let site: TestSite;
let storage: string;
let increment: string;
/** The cluster's content when the increment was made, and at the end of the WAL. */
let then: Record<string, string>;
let atEnd: Record<string, string>;

const content = async (url: string): Promise<Record<string, string>> => (await query(url, CONTENT))[0] ?? {};

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

const recover = (...args: string[]): Promise<Ran> =>
  new Promise((resolve) => {
    execFile(process.execPath, [RECOVER, ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });

/** With the key, and the signer that the manifest of the increment names. */
async function withKeys(...args: string[]): Promise<Ran> {
  const { signature } = JSON.parse(await readFile(join(increment, "manifest.json"), "utf8"));
  return recover(...args, "--identity", join(site.home, "keys/identity"), "--signer", signature.signer);
}

/** As whoever recovers by hand does it. */
async function giveToServer(...paths: string[]): Promise<void> {
  const { uid, gid } = await stat(server.dataDirectory);
  for (const path of paths) execFileSync("chown", ["-R", `${uid}:${gid}`, path]);
}

const pieces = async (): Promise<string[]> =>
  (await readdir(join(storage, "wal"), { recursive: true })).filter((name) =>
    /\/[0-9A-F]{24}\.[0-9A-F]{8}-[0-9A-F]{8}\.jbk$/.test(name),
  );

/** What is done while the WAL is followed ends up in pieces of a segment that is never finished. */
async function followed(work: () => Promise<void>): Promise<void> {
  const following = site.start(["backup", "wal", "--follow"]);
  try {
    await work();
    await vi.waitFor(async () => expect(await pieces()).not.toEqual([]), { timeout: 20_000, interval: 100 });
  } finally {
    process.kill(following.pid, "SIGTERM");
  }
  await following;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-recover-"));
  await chmod(folder, 0o755);
  server = await startPostgres({
    initdb: ["-k"],
    settings: { wal_level: "replica", full_page_writes: "on" },
  });
  const space = join(folder, "space");
  await mkdir(space);
  const { uid, gid } = await stat(server.dataDirectory);
  await chown(space, uid, gid);
  await query(
    server.url(),
    `create tablespace aside location '${space}'`,
    "create table moved tablespace aside as select g as id, md5(g::text) as text from generate_series(1, 5000) g",
    "create table kept as select generate_series(1, 100000) as id",
    "create table ticks (id int primary key)",
  );
  site = await makeSite({ url: server.url() });
  storage = join(site.folder, "local");
  await site.json(["backup", "wal"]);
  await site.json(["backup", "full"]);
  await query(
    server.url(),
    "update moved set text = 'changed' where id % 100 = 0",
    "insert into ticks select generate_series(1, 50)",
  );
  const backup = await site.json(["backup", "full"]);
  expect(backup.metadata).toMatchObject({ incremental: true });
  expect(backup.metadata.blocksReferenced).toBeGreaterThan(0);
  increment = join(storage, backup.copies[0].path);
  then = await content(server.url());
  await query(server.url(), "insert into ticks select generate_series(51, 80)", "select pg_switch_wal()");
  await site.json(["backup", "wal"]);
  await followed(async () => {
    await query(
      server.url(),
      "insert into ticks select generate_series(81, 99)",
      "delete from moved where id = 7",
    );
  });
  atEnd = await content(server.url());
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

test("the recovery script lists physical backups and the WAL", async () => {
  const { code, stdout } = await recover("list", storage);
  expect(code).toBe(0);
  expect(stdout).toMatch(/ {2}full {2}physical {2}/);
  expect(stdout).toMatch(/ {2}full {2}physical on 1 older {2}/);
  expect(stdout).toMatch(/^WAL {2}cluster \d+ {2}\d+ segments {2}\d+ pieces {2}0 histories/m);
  const shown = await withKeys("show", increment);
  expect(shown.stdout).toContain("global/pg_control");
  expect(shown.stdout).toContain("aside, at ");
});

test("an increment becomes a cluster as it was at its end", async () => {
  const out = join(folder, "alone");
  const { code, stderr } = await withKeys("open", increment, "--out", out);
  expect(stderr).not.toContain("WARNING");
  expect(code).toBe(0);
  await giveToServer(out, `${out}-tablespaces`);
  const restored = await serveRestored(out, server.binDirectory);
  try {
    expect(await content(restored.url())).toEqual(then);
    checkRelations(restored.url(), server.binDirectory);
  } finally {
    await restored.stop();
  }
  checkPages(out, server.binDirectory);
});

test("with the WAL it goes on to the last commit that was archived", async () => {
  const [out, wal] = [join(folder, "replayed"), join(folder, "wal")];
  expect(await withKeys("open", increment, "--out", out)).toMatchObject({ code: 0 });
  const opened = await withKeys("wal", storage, "--out", wal);
  expect(opened).toMatchObject({ code: 0 });
  expect(opened.stderr).toMatch(/[1-9]\d* segments, 1 put together from pieces/);
  for (const name of await readdir(wal)) expect((await stat(join(wal, name))).size).toBe(2 ** 24);
  await appendFile(join(out, "postgresql.auto.conf"), `restore_command = 'cp ${wal}/%f %p'\n`);
  await writeFile(join(out, "recovery.signal"), "");
  await giveToServer(out, `${out}-tablespaces`, wal);
  const restored = await serveRestored(out, server.binDirectory);
  try {
    expect(await content(restored.url())).toEqual(atEnd);
  } finally {
    await restored.stop();
  }
});

/** A copy of the storage, with one of its files changed. */
async function damagedCopy(name: string, pick: (path: string) => boolean): Promise<string> {
  const copy = join(folder, name);
  await cp(storage, copy, { recursive: true });
  const files = await readdir(copy, { recursive: true });
  const path = join(copy, files.find(pick) ?? "none");
  const bytes = await readFile(path);
  const middle = Math.floor(bytes.length / 2);
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
  await writeFile(path, bytes);
  return copy;
}

test("damage in an older backup is told before anything is written, and a lost one is named", async () => {
  const [{ folder: needed }] = JSON.parse(await readFile(join(increment, "manifest.json"), "utf8")).body
    .needs;
  const copy = await damagedCopy("bad-pack", (path) => path.startsWith(needed) && path.includes("data/"));
  const own = increment.replace(storage, copy);
  const out = join(folder, "bad");
  const bad = await withKeys("open", own, "--out", out);
  expect(bad).toMatchObject({ code: 4 });
  expect(bad.stderr).toContain("its SHA-256 is not the one that was signed");
  await rm(join(copy, needed), { recursive: true });
  const lost = await withKeys("open", own, "--out", out);
  expect(lost).toMatchObject({ code: 1 });
  expect(lost.stderr).toContain(`the backup builds on ${needed}, which is neither in`);
  expect(existsSync(out)).toBe(false);
  const elsewhere = join(folder, "elsewhere");
  expect(await withKeys("open", own, "--storage", storage, "--out", elsewhere)).toMatchObject({ code: 0 });
});

test("a damaged segment is left out, told, and the others are opened", async () => {
  const copy = await damagedCopy("bad-wal", (path) => /\/[0-9A-F]{24}\.jbk$/.test(path));
  const out = join(folder, "bad-wal-out");
  const ran = await withKeys("wal", copy, "--out", out);
  expect(ran).toMatchObject({ code: 4 });
  expect(ran.stderr).toMatch(/DAMAGED [0-9A-F]{24}: .* is damaged at frame/);
  expect((await readdir(out)).length).toBe((await readdir(join(folder, "wal"))).length - 1);
});
