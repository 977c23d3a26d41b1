import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { filesBelow } from "../support/files.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;

interface Found {
  storage: string;
  path: string;
  problem: string;
}

const rowsOf = async (database: string): Promise<unknown> => {
  const content = Object.entries(await contentOf(server.url(database)));
  return Object.fromEntries(content.filter(([name]) => name.endsWith(" (r)")));
};
const segments = (storage: string): string[] =>
  filesBelow(join(site.folder, storage, "wal")).filter((path) => /[0-9A-F]{24}\.jbk$/.test(path));

beforeAll(async () => {
  server = await startPostgres({ settings: { wal_level: "replica" } });
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders as select g as id, md5(g::text) as note from generate_series(1, 1000) g",
  );
  site = await makeSite({
    url: server.url("shop"),
    storages: (folder) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${folder}/${name}}`),
  });
  await site.json(["backup", "full"]);
  for (let nth = 0; nth < 4; nth++) {
    await query(
      server.url("shop"),
      "insert into orders select 1000 + g, md5(g::text) from generate_series(1, 500) g",
      "select pg_switch_wal()",
    );
    await site.json(["backup", "wal"]);
  }
});
afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

/** The newest moment, from one storage alone. */
async function expectRecoverable(storage: string, away: string): Promise<void> {
  renameSync(join(site.folder, away), join(site.folder, "away"));
  try {
    const ran = await site.run(
      "restore",
      "--mode",
      "pitr",
      "--to",
      "latest",
      "--into-db",
      "copy",
      "--reason",
      "test",
    );
    expect(ran.code, `${storage}: ${ran.stderr}`).toBe(0);
    expect(await rowsOf("copy")).toEqual(await rowsOf("shop"));
    await query(server.url(), "drop database copy");
  } finally {
    rmSync(join(site.folder, away), { recursive: true, force: true }); // asking for it may have made an empty one
    renameSync(join(site.folder, "away"), join(site.folder, away));
  }
}

test("a storage that lost everything is refilled from the other, WAL and its keys too, and recovers alone", async () => {
  rmSync(join(site.folder, "two"), { recursive: true });
  await query(
    server.url("shop"),
    "insert into orders select 9000 + g, 'after' from generate_series(1, 500) g",
    "select pg_switch_wal()",
  );
  mkdirSync(join(site.folder, "two"));
  const refused = await site.run("backup", "wal");
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("storage two is empty, and ")]);
  const found = await site.json(["verify", "--all"], [4]);
  expect(
    found.problems.every(({ storage, problem }: Found) => storage === "two" && problem === "is missing"),
  ).toBe(true);
  expect(found.problems.filter(({ path }: Found) => path.startsWith("wal/")).length).toBeGreaterThanOrEqual(
    4,
  );
  const healed = await site.json(["verify", "--all", "--heal"]);
  expect(healed.problems).toEqual([]);
  await site.json(["backup", "wal"]);
  expect(segments("two").length).toBe(segments("one").length);
  await expectRecoverable("two", "one");
});

test.each([
  [
    "a flipped byte",
    (bytes: Buffer) =>
      Object.assign(Buffer.from(bytes), { [bytes.length >> 1]: (bytes[bytes.length >> 1] ?? 0) ^ 1 }),
  ],
  ["a cut end", (bytes: Buffer) => bytes.subarray(0, bytes.length - 40)],
])(
  "%s in one copy of a segment is found by comparing, told by the seal, and mended",
  async (_what, damage) => {
    const path = segments("one")[1] as string;
    const good = readFileSync(path);
    writeFileSync(path, damage(good));
    const found = await site.json(["verify", "--all"], [4]);
    expect(found.problems).toHaveLength(1);
    expect(found.problems[0]).toMatchObject({
      storage: "one",
      path: path.slice(join(site.folder, "one").length + 1),
    });
    expect((await site.json(["verify", "--all", "--heal"])).problems).toEqual([]);
    expect(readFileSync(path).equals(good)).toBe(true);
    expect(
      (await site.json(["alerts"])).filter(({ type }: { type: string }) => type === "INTEGRITY_FAILURE"),
    ).toEqual([]);
  },
);

test("WAL of which no copy opens is never spread, and what is missing is told until there is a good one", async () => {
  const [one, two] = ["one", "two"].map((storage) => segments(storage)[1]) as [string, string];
  const good = readFileSync(one);
  writeFileSync(
    one,
    Object.assign(Buffer.from(good), { [good.length >> 1]: (good[good.length >> 1] ?? 0) ^ 1 }),
  );
  rmSync(two);
  const healed = await site.json(["verify", "--all", "--heal"], [4]);
  expect(healed.healed).toEqual([]);
  expect(healed.problems).toMatchObject([
    { storage: "one", problem: expect.stringContaining("damaged") },
    { storage: "two", problem: "is missing" },
  ]);
  expect(existsSync(two)).toBe(false);
  writeFileSync(one, good);
  expect((await site.json(["verify", "--all", "--heal"])).healed).toMatchObject([{ storage: "two" }]);
  expect(readFileSync(two).equals(good)).toBe(true);
});

test("a host without the private key copies no WAL, and says where it is done", async () => {
  const two = segments("two")[1] as string;
  const identity = join(site.home, "keys", "identity");
  rmSync(two);
  renameSync(identity, `${identity}-away`);
  try {
    const healed = await site.json(["verify", "--all", "--heal"], [4]);
    expect(healed.problems).toMatchObject([
      { storage: "two", problem: expect.stringContaining("run jbackup verify --all --heal there") },
    ]);
    expect(existsSync(two)).toBe(false);
  } finally {
    renameSync(`${identity}-away`, identity);
  }
  expect((await site.json(["verify", "--all", "--heal"])).healed).toHaveLength(1);
});

test("what somebody put ahead of the archive is found without a key, stays where it is, and gives way to the WAL", async () => {
  const [{ ahead = "" } = {}] = await query(
    server.url("shop"),
    "select pg_walfile_name(pg_current_wal_lsn() + 32 * 1024 * 1024) as ahead",
  );
  const placeIn = (storage: string): string =>
    join(
      site.folder,
      storage,
      `${dirname(segments("one")[0] as string).slice(join(site.folder, "one").length)}/${ahead}.jbk`,
    );
  writeFileSync(placeIn("two"), randomBytes(400));
  const healed = await site.json(["verify", "--all", "--heal"], [4]);
  expect(healed.healed).toEqual([]);
  expect(healed.problems).toContainEqual({
    backupId: null,
    storage: "two",
    path: expect.stringContaining(ahead),
    problem: `${ahead} is not a jbackup container: its first bytes are wrong`,
  });
  expect(existsSync(placeIn("one"))).toBe(false);
  for (let nth = 0; nth < 3; nth++) {
    await query(server.url("shop"), "insert into orders values (0, 'on')", "select pg_switch_wal()");
    await site.json(["backup", "wal"]);
  }
  expect((await site.json(["verify", "--all"])).problems).toEqual([]);
  const told = (await site.json(["alerts"])).filter(({ type }: { type: string }) => type === "SECURITY");
  expect(told).toMatchObject([{ severity: "critical", message: expect.stringContaining("in the place of") }]);
  await site.json(["alerts", "resolve", told[0].id, "--note", "test"]);
  await expectRecoverable("two", "one");
});

test("a lost or forged key of the WAL is found and mended", async () => {
  const keys = filesBelow(join(site.folder, "one", "wal")).filter((path) => path.includes("/keys/"));
  expect(keys.length).toBeGreaterThan(0);
  const [key] = keys as [string];
  const good = readFileSync(key);
  writeFileSync(key, good.toString("utf8").replace(/"systemId":\s*"\d/, '"systemId": "x'));
  const found = await site.json(["verify", "--all"], [4]);
  expect(found.problems).toMatchObject([
    { storage: "one", problem: expect.stringContaining("cannot be believed") },
  ]);
  rmSync(key);
  expect((await site.json(["verify", "--all", "--heal"])).healed).toMatchObject([
    { storage: "one", problem: "is missing" },
  ]);
  expect(readFileSync(key).equals(good)).toBe(true);
});

/** Its sealed key with another letter; as early versions wrote it, where they did not sign keys. */
function spoilt(good: Buffer, isSigned: boolean): string {
  const raw = JSON.parse(good.toString("utf8"));
  raw.keys[0].sealed = (raw.keys[0].sealed.startsWith("A") ? "B" : "A") + raw.keys[0].sealed.slice(1);
  if (!isSigned) delete raw.keysSignature;
  return JSON.stringify(raw);
}

test("a key of the WAL that is spoilt in one storage is not spread, is healed, and does not keep a recovery from the other", async () => {
  const [key] = filesBelow(join(site.folder, "one", "wal")).filter((path) => path.includes("/keys/"));
  const [here, there] = [key as string, (key as string).replace("/one/", "/two/")];
  const good = readFileSync(there);
  writeFileSync(here, spoilt(good, false));
  rmSync(there);
  const alone = await site.json(["verify", "--all", "--level", "stored", "--heal"], [4]);
  expect(alone.problems.map(({ storage, problem }: Found) => `${storage} ${problem}`)).toEqual([
    "two is missing",
    "one does not open",
  ]);
  writeFileSync(there, good);
  writeFileSync(here, spoilt(good, true));
  await query(server.url("shop"), "insert into orders values (20001, 'late')", "select pg_switch_wal()");
  await site.json(["backup", "wal"]);
  const ran = await site.run(
    ...["restore", "--mode", "pitr", "--to", "latest", "--into-db", "copy", "--reason", "test"],
  );
  expect(ran.code, ran.stderr).toBe(0);
  expect(await rowsOf("copy")).toEqual(await rowsOf("shop"));
  await query(server.url(), "drop database copy");
  const security = async () =>
    (await site.json(["alerts"])).filter(({ type }: { type: string }) => type === "SECURITY");
  expect(await security()).toMatchObject([{ severity: "critical", storage: "one" }]);
  const healed = await site.json(["verify", "--all", "--level", "stored", "--heal"]);
  expect(healed.healed).toMatchObject([
    { storage: "one", problem: "has keys that were changed after they were signed" },
  ]);
  expect(readFileSync(here).equals(good)).toBe(true);
  expect(await security()).toEqual([]);
});

test("a backup whose manifest is gone everywhere is a critical alert", async () => {
  const made = await site.json(["backup", "full", "--logical"]);
  for (const storage of ["one", "two"])
    rmSync(join(site.folder, storage, made.copies[0].path, "manifest.json"));
  const found = await site.json(["verify", "--all"], [4]);
  expect(found.problems).toHaveLength(2);
  const shown = (await site.json(["list"])).find(({ id }: { id: string }) => id === made.id);
  expect(shown.copies.map(({ status }: { status: string }) => status)).toEqual(["missing", "missing"]);
  const critical = (await site.json(["alerts"])).filter(
    ({ severity }: { severity: string }) => severity === "critical",
  );
  expect(critical).toMatchObject([{ type: "INTEGRITY_FAILURE", backupId: made.id }]);
});
