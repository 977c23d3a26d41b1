import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { filesBelow } from "../support/files.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;
let nth = 0;

beforeAll(async () => {
  server = await startPostgres({ settings: { wal_level: "replica" } });
  site = await makeSite({
    here: true,
    url: server.url(),
    storages: (folder) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(folder, name)}}`),
    more: ["minCopies: 1"],
  });
  await site.json(["backup", "full"]);
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

const below = (...parts: string[]): string => join(site.folder, ...parts);
const restore = (): ReturnType<TestSite["run"]> =>
  site.run("restore", "--into-dir", below(`restored-${nth++}`), "--reason", "test");
const copiesIn = (backup: { copies: { storage: string; status: string }[] }): Record<string, string> =>
  Object.fromEntries(backup.copies.map(({ storage, status }) => [storage, status]));
const NONE_LOST = { one: "stored", two: "stored" };

/** Another marker while the work goes on. */
async function withMarkers(names: string[], marker: object, work: () => Promise<void>): Promise<void> {
  const own = readFileSync(below("one", "jbackup-site.json"));
  const write = (content: string | Buffer): void => {
    for (const name of names) writeFileSync(below(name, "jbackup-site.json"), content);
  };
  write(JSON.stringify({ ...JSON.parse(own.toString()), ...marker }));
  try {
    await work();
  } finally {
    write(own);
  }
}

test.each([
  ["another site", { site: "other" }, 10],
  ["a format to come", { format: 99 }, 16],
])(
  "the marker of %s in one storage keeps no restore from the other, and is an alert",
  async (_what, marker, code) => {
    await withMarkers(["one"], marker, async () => {
      const ran = await restore();
      expect(ran.code, ran.stderr).toBe(0);
      expect(ran.stderr).toContain("storage one cannot be read: ");
      expect(await site.json(["alerts"])).toMatchObject([
        { type: "SECURITY", severity: "critical", fingerprint: "marker:one", storage: "one" },
      ]);
      const before = filesBelow(below("two"));
      expect((await site.run("backup", "full")).code).toBe(code);
      expect(filesBelow(below("two"))).toEqual(before);
    });
    await site.json(["backup", "full"]);
    expect(await site.json(["alerts"])).toEqual([]);
  },
);

test("where no storage is left the reason is told, and not that there is no backup", async () => {
  await withMarkers(["one", "two"], { site: "other" }, async () => {
    const ran = await restore();
    expect(ran.code).toBe(10);
    expect(ran.stderr).toMatch(/Error: storage (one|two) at \S+ belongs to site other, not to test/);
  });
  await site.json(["backup", "full"]);
  const away = ["one", "two"].map((name) => below(name, "backups/full"));
  for (const folder of away) {
    renameSync(folder, `${folder}-away`);
    for (const file of filesBelow(`${folder}-away`).filter((path) => path.endsWith("/manifest.json"))) {
      const planted = file.replace("/full-away/", "/full/");
      mkdirSync(join(planted, ".."), { recursive: true });
      writeFileSync(planted, "{}");
    }
  }
  const ran = await restore();
  for (const folder of away) {
    rmSync(folder, { recursive: true });
    renameSync(`${folder}-away`, folder);
  }
  expect(ran.code).toBe(4);
  expect(ran.stderr).toMatch(/Error: the manifest of backup \S+ is not signed/);
  expect((await restore()).code).toBe(0);
  await site.json(["verify", "--all"]);
  expect(await site.json(["alerts"])).toEqual([]);
});

test("a storage that is suddenly empty is left out, and takes backups again when it is back", async () => {
  const text = readFileSync(site.configFile, "utf8");
  const two = below("two");
  renameSync(two, below("mounted"));
  mkdirSync(two);
  const partial = await site.json(["backup", "full"], [3]);
  expect(copiesIn(partial)).toEqual({ one: "stored", two: "missing" });
  const [alert] = await site.json(["alerts"]);
  expect(alert).toMatchObject({ type: "COPY_MISSING", severity: "critical", storage: "two" });
  expect(alert.message).toMatch(
    /storage two is empty, and the catalog knows of copies in it: .*not mounted\?$/,
  );
  expect(alert.hint).toContain("jbackup verify --all --heal");

  await site.configure(text.replace("minCopies: 1", "minCopies: 2"));
  const refused = await site.run("backup", "full");
  expect([refused.code, refused.stderr]).toEqual([
    1,
    expect.stringContaining("(two: storage two is empty, and the catalog knows of copies in it"),
  ]);
  expect((await site.run("backup", "wal")).code).toBe(1);
  expect(readdirSync(two)).toEqual([]);
  await site.configure(text);

  rmSync(two, { recursive: true });
  renameSync(below("mounted"), two);
  expect(copiesIn(await site.json(["backup", "full"]))).toEqual(NONE_LOST);
  expect(copiesIn(await site.json(["show", partial.id]))).toEqual(NONE_LOST);
  await site.json(["backup", "wal"]);
  expect(await site.json(["alerts"])).toEqual([]);
});

test("one that was really lost is filled by verify --heal, and goes on from there", async () => {
  rmSync(below("two"), { recursive: true });
  const gone = await site.run("backup", "full");
  expect([gone.code, gone.stderr]).toEqual([
    3,
    expect.stringContaining("storage two is gone, and the catalog"),
  ]);
  mkdirSync(below("two"));
  expect((await site.json(["verify", "--all", "--heal"])).problems).toEqual([]);
  expect(copiesIn(await site.json(["backup", "full"]))).toEqual(NONE_LOST);
  rmSync(below("one"), { recursive: true });
  mkdirSync(below("one"));
  expect((await restore()).code).toBe(0);
  expect((await site.json(["verify", "--all", "--heal"])).problems).toEqual([]);
  expect(await site.json(["alerts"])).toEqual([]);
});

test("a marker that alone was lost is written again", async () => {
  const marker = below("two", "jbackup-site.json");
  rmSync(marker);
  expect(copiesIn(await site.json(["backup", "full"]))).toEqual(NONE_LOST);
  expect(JSON.parse(readFileSync(marker, "utf8"))).toMatchObject({ site: "test" });
});
