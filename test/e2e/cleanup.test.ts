import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Restore } from "../../src/domain/backup.js";
import { contentOf, query } from "../support/awkward.js";
import { filesBelow } from "../support/files.js";
import { killAt } from "../support/kill.js";
import { openTestSite } from "../support/openedSite.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import { CLEANUP_STEPS } from "../support/steps.js";

interface Made {
  id: string;
  label: string;
  copies: { storage: string; status: string; path: string }[];
}

let server: TestPostgres;
let site: TestSite;
let scratch: string;

const FAR = "far: {within: 1y}";
const policy = (near: string, window = "1s"): string[] => [
  `retention: {near: ${near}, ${FAR}, pitrWindow: ${window}}`,
];

async function withPolicy(near: string, window?: string): Promise<TestSite> {
  const made = await makeSite({
    here: true,
    url: server.url("shop"),
    storages: (folder) =>
      ["near", "far"].map((name) => `- {name: ${name}, kind: local, path: ${folder}/${name}}`),
    more: policy(near, window),
  });
  return made;
}

const rowsOf = async (database: string): Promise<Record<string, string>> => {
  const content = Object.entries(await contentOf(server.url(database)));
  // a sequence is logged ahead of its use: a recovered one may stand further on
  return Object.fromEntries(content.filter(([name]) => name.endsWith(" (r)")));
};

const change = (): Promise<unknown> =>
  query(
    server.url("shop"),
    "insert into orders (note) select md5(random()::text) from generate_series(1, 500)",
  );

async function backedUp(...args: string[]): Promise<Made> {
  await change();
  return site.json(["backup", "full", ...args]);
}

async function expectRestored(
  reference: string,
  rows: Record<string, string>,
  ...more: string[]
): Promise<void> {
  const ran = await site.run("restore", reference, "--into-db", "copy", "--reason", "test", ...more);
  expect(ran.code, ran.stderr).toBe(0);
  expect(await rowsOf("copy")).toEqual(rows);
  await query(server.url(), "drop database copy");
}

const isIn = (storage: string, { copies }: Made): boolean =>
  existsSync(join(site.folder, storage, copies[0]?.path ?? "", "manifest.json"));

beforeAll(async () => {
  server = await startPostgres({ settings: { wal_level: "replica" } });
  await query(server.url(), "create database shop");
  await query(
    server.url("shop"),
    "create table orders (id bigint generated always as identity primary key, note text)",
  );
});
afterAll(() => server?.stop());
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "jbackup-cleanup-"));
});
afterEach(async () => {
  await site?.remove();
  await query(server.url(), "drop database if exists copy");
  rmSync(scratch, { recursive: true, force: true });
});

test("what no rule keeps goes from the storage that asks for it, and every promised moment still restores", async () => {
  site = await withPolicy("{last: 1}");
  const first = await backedUp("--fresh");
  const second = await backedUp();
  await site.json(["backup", "wal"]);
  const third = await backedUp("--fresh");
  const fourth = await backedUp();
  await change();
  await site.json(["backup", "wal"]);
  await delay(1100); // the window is a second: only the newest base is before it
  const [{ now }] = (await query(server.url("shop"), "select now()::text as now")) as [{ now: string }];
  const rowsThen = await rowsOf("shop");
  await delay(100);
  await change();
  await site.json(["backup", "wal"]);

  const reports = join(site.home, "reports");
  mkdirSync(reports);
  const [old, kept] = ["20200101-070000", "20200201-070000"].map((at) => `test-restore-test-${at}.html`);
  for (const name of [old, kept, "notes.txt"]) writeFileSync(join(reports, name as string), "");

  const looked = await site.json(["cleanup", "--dry-run"]);
  expect(looked.reports).toEqual([join(reports, old as string)]);
  expect(readdirSync(reports)).toHaveLength(3);
  const near = (list: { id: string; storage: string }[]) =>
    list
      .filter(({ storage }) => storage === "near")
      .map(({ id }) => id)
      .sort();
  expect(near(looked.remove)).toEqual([first.id, second.id].sort());
  expect(near(looked.keep)).toEqual([third.id, fourth.id].sort());
  expect(looked.remove.some(({ storage }: { storage: string }) => storage === "far")).toBe(false);
  expect(looked.keep.every(({ reasons }: { reasons: string[] }) => reasons.length > 0)).toBe(true);
  expect(isIn("near", first)).toBe(true);

  const refused = await site.run("cleanup", "--json");
  expect(refused.code).toBe(13);
  expect(JSON.parse(refused.stdout).error.hint).toBe("give --confirm test");
  expect(isIn("near", first)).toBe(true);

  const walBefore = filesBelow(join(site.folder, "near", "wal")).length;
  const done = await site.json(["cleanup", "--confirm", "test"]);
  expect(done.removed).toMatchObject({ backups: 2, reports: 1 });
  expect(readdirSync(reports).sort()).toEqual(["notes.txt", kept]);
  expect([first, second, third, fourth].map((one) => isIn("near", one))).toEqual([false, false, true, true]);
  expect([first, second, third, fourth].map((one) => isIn("far", one))).toEqual([true, true, true, true]);
  expect(filesBelow(join(site.folder, "near", "wal")).length).toBeLessThan(walBefore);
  const shown = await site.json(["show", first.id]);
  expect(shown.copies.map((copy: { status: string }) => copy.status)).toEqual(["removed", "stored"]);
  expect((await site.json(["cleanup"])).removed.backups).toBe(0);
  expect((await site.json(["verify", "--all"])).problems).toEqual([]);

  renameSync(join(site.folder, "far"), join(scratch, "far"));
  await expectRestored("latest", rowsThen, "--mode", "pitr", "--to", now.replace(" ", "T"));
  renameSync(join(scratch, "far"), join(site.folder, "far"));
  await expectRestored(second.id, await rowsOfBackup(second));
});

/** What a backup held is asked of the other storage. */
async function rowsOfBackup({ id }: Made): Promise<Record<string, string>> {
  const ran = await site.run("restore", id, "--into-db", "witness", "--reason", "test");
  expect(ran.code, ran.stderr).toBe(0);
  const rows = await rowsOf("witness");
  await query(server.url(), "drop database witness");
  return rows;
}

test("a pin holds a backup until it is taken off, also when the catalog is lost", async () => {
  site = await withPolicy("{last: 1}");
  const first = await backedUp("--logical");
  const second = await backedUp("--logical");
  await site.json(["pin", first.id, "--reason", "audit 2026", "--until", "90d"]);
  expect((await site.run("show", first.id)).stdout).toContain('pinned    "audit 2026", until ');
  for (const name of readdirSync(site.home).filter((file) => file.startsWith("catalog")))
    rmSync(join(site.home, name));
  await site.json(["catalog", "rebuild"]);
  expect((await site.run("show", first.id)).stdout).toContain('pinned    "audit 2026", until ');
  const held = await site.json(["cleanup", "--confirm", "test"]);
  expect(held.remove).toEqual([]);
  expect(
    held.keep.find(
      ({ id, storage }: { id: string; storage: string }) => id === first.id && storage === "near",
    ).reasons,
  ).toEqual(["pinned: audit 2026"]);
  await site.json(["unpin", first.id]);
  const after = await site.json(["cleanup", "--confirm", "test"]);
  expect(after.remove.map(({ id }: { id: string }) => id)).toEqual([first.id]);
  expect(isIn("near", second)).toBe(true);
});

test("what a restore is reading stays, on whatever host that is, but not for ever", async () => {
  site = await withPolicy("{last: 1}");
  const first = await backedUp("--logical");
  await backedUp("--logical");
  const opened = await openTestSite(site);
  const reading = async (startedAt: number, status: Restore["status"]) => {
    await opened.catalog.saveRestore({
      id: "019aa000-0000-7000-8000-000000000001",
      backupId: first.id,
      mode: "full",
      status,
      target: "copy",
      targetTime: null,
      tenantIds: [],
      rowsRestored: 0,
      startedAt: new Date(startedAt).toISOString(),
      finishedAt: null,
      durationMs: null,
      tables: [],
      warnings: [],
      error: null,
      reason: "test",
      initiatedBy: "ops@elsewhere",
      jobId: "019aa000-0000-7000-8000-000000000002",
      metadata: {},
    });
    const { keep } = await site.json(["cleanup", "--dry-run"]);
    return keep.find(
      ({ id, storage }: { id: string; storage: string }) => id === first.id && storage === "near",
    );
  };
  try {
    const hour = 3_600_000;
    const kept = await reading(Date.now() - 47 * hour, "in_progress");
    expect(kept?.reasons).toEqual(["a restore of it into copy is under way"]);
    // one that was killed says so for ever, until the next one settles it
    expect(await reading(Date.now() - 49 * hour, "in_progress")).toBeUndefined();
    expect(await reading(Date.now(), "completed")).toBeUndefined();
  } finally {
    await opened.close();
  }
});

test("a changed policy is a dry run once", async () => {
  site = await withPolicy("{last: 5}");
  const first = await backedUp("--logical");
  await backedUp("--logical");
  expect((await site.json(["cleanup"])).held).toBeNull();
  await site.configure(
    [
      "site: test",
      `database: {url: "${server.url("shop")}"}`,
      "storages:",
      ...["near", "far"].map((name) => `  - {name: ${name}, kind: local, path: ${site.folder}/${name}}`),
      ...policy("{last: 1}"),
    ].join("\n"),
  );
  const held = await site.json(["cleanup", "--confirm", "test"]);
  expect(held.held).toContain("the retention policy has changed");
  expect(isIn("near", first)).toBe(true);
  expect((await site.json(["cleanup", "--confirm", "test"])).removed.backups).toBe(1);
  expect(isIn("near", first)).toBe(false);
  const entries: { action: string; subject: string }[] = await site.json(["audit", "show"]);
  const changes = entries.filter(({ action }) => action === "config.change");
  expect(changes).toMatchObject([{ subject: site.configFile }]);
});

test("a storage that lists nothing is left alone, and said", async () => {
  site = await withPolicy("{last: 1}");
  await backedUp("--logical");
  await backedUp("--logical");
  renameSync(join(site.folder, "near", "backups"), join(scratch, "backups"));
  const ran = await site.json(["cleanup", "--confirm", "test"], [3]);
  expect(ran.passedOver).toEqual([
    { storage: "near", why: "it lists no backup, and the catalog knows of some" },
  ]);
  expect(ran.removed.backups).toBe(0);
});

test("a damaged newest backup never stands in for a good one", async () => {
  site = await withPolicy("{last: 1}");
  const good = await backedUp("--logical");
  const rows = await rowsOf("shop");
  const newest = await backedUp("--logical");
  const folder = join(site.folder, "near", newest.copies[0]?.path ?? "");
  rmSync(join(folder, "data"), { recursive: true });
  renameSync(join(site.folder, "far"), join(scratch, "far"));
  await site.json(["cleanup", "--confirm", "test"], [0, 3]);
  expect(isIn("near", good)).toBe(true);
  await expectRestored(good.id, rows);
  renameSync(join(scratch, "far"), join(site.folder, "far"));
});

const flip = (file: string): void => {
  const bytes = readFileSync(file);
  const middle = Math.floor(bytes.length / 2);
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  writeFileSync(file, bytes);
};

test("what builds on something damaged is no better: it is said, nothing more builds on it, and the last good one stays", async () => {
  site = await makeSite({
    here: true,
    url: server.url("shop"),
    storages: (folder) => [`- {name: near, kind: local, path: ${folder}/near}`],
    more: ["retention: {near: {last: 1}, pitrWindow: 1s}"],
  });
  const good = await backedUp("--fresh");
  const base = await backedUp("--fresh");
  const increment = await backedUp();
  expect(increment).toMatchObject({ parentId: base.id });
  flip(join(site.folder, "near", base.copies[0]?.path ?? "", "data/000001.jbk"));
  await site.json(["verify", "--all"], [4]);
  for (const { id } of [base, increment]) {
    const shown = await site.json(["show", id]);
    expect([shown.status, shown.copies[0].status]).toEqual(["completed", "damaged"]);
  }
  const planned = await site.json(["cleanup", "--dry-run"]);
  expect(planned.remove).toEqual([]);
  expect(isIn("near", good)).toBe(true);
  const fresh = await backedUp();
  expect(fresh).toMatchObject({ parentId: null });
  await site.json(["cleanup", "--confirm", "test"]);
  expect(isIn("near", fresh)).toBe(true);
});

test("a manifest that cannot be read anywhere stops the cleanup of that storage, and is named", async () => {
  site = await withPolicy("{last: 1}");
  const first = await backedUp("--logical");
  await backedUp("--logical");
  for (const storage of ["near", "far"])
    writeFileSync(join(site.folder, storage, first.copies[0]?.path ?? "", "manifest.json"), "{");
  const ran = await site.json(["cleanup", "--confirm", "test"], [3]);
  expect(ran.remove).toEqual([]);
  expect(ran.passedOver.map(({ storage }: { storage: string }) => storage).sort()).toEqual(["far", "near"]);
});

test("a manifest planted under a backup's id makes orphans of nothing, and is told", async () => {
  site = await withPolicy("{last: 5}");
  const first = await backedUp("--logical");
  const second = await backedUp("--logical");
  const rows = await rowsOf("shop");
  const long = new Date(Date.now() - 5 * 86_400_000);
  for (const made of [first, second]) {
    const folder = `backups/full/2999/01/${made.id}`;
    mkdirSync(join(site.folder, "far", folder), { recursive: true });
    // one that is nothing, and one that is rightly signed but stands elsewhere
    const bytes =
      made === first
        ? Buffer.from("{}")
        : readFileSync(join(site.folder, "far", made.copies[0]?.path ?? "", "manifest.json"));
    writeFileSync(join(site.folder, "far", folder, "manifest.json"), bytes);
    for (const storage of ["near", "far"])
      for (const file of filesBelow(join(site.folder, storage, made.copies[0]?.path ?? "")))
        utimesSync(file, long, long);
  }
  const ran = await site.json(["cleanup", "--confirm", "test"], [0, 3]);
  expect(ran.remove).toEqual([]);
  expect(ran.removed?.objects ?? 0).toBe(0);
  const report = await site.json(["verify", "--all"], [4]);
  expect(report.problems).toHaveLength(2);
  expect((await site.json(["alerts"])).map(({ type }: { type: string }) => type)).toContain("SECURITY");
  expect((await site.json(["show", second.id])).copies).toMatchObject([
    { status: "stored" },
    { status: "stored" },
  ]);
  await expectRestored(second.id, rows);
  rmSync(join(site.folder, "far/backups/full/2999"), { recursive: true });
  await site.json(["verify", "--all"]);
  expect(await site.json(["alerts"])).toEqual([]);
});

test("copies removed from several storages at once are known to be gone from all of them", async () => {
  site = await makeSite({
    here: true,
    url: server.url("shop"),
    storages: (folder) =>
      ["near", "far"].map((name) => `- {name: ${name}, kind: local, path: ${folder}/${name}}`),
    more: ["retention: {near: {last: 1}, far: {last: 1}, pitrWindow: 1s}"],
  });
  const made: Made[] = [];
  for (let nth = 0; nth < 4; nth++) made.push(await backedUp("--logical"));
  await site.json(["cleanup", "--confirm", "test"]);
  for (const { id } of made.slice(0, 3))
    expect((await site.json(["show", id])).copies).toMatchObject([
      { status: "removed" },
      { status: "removed" },
    ]);
  expect((await site.json(["verify", "--all"])).problems).toEqual([]);
});

test("what a killed cleanup left is swept when it is old enough, though another storage has the backup", async () => {
  site = await withPolicy("{last: 1}");
  for (let nth = 0; nth < 3; nth++) await backedUp("--logical");
  await killAt(site, "cleanup-manifest-removed", ["cleanup", "--confirm", "test"]);
  const near = join(site.folder, "near", "backups");
  const long = new Date(Date.now() - 72 * 3_600_000);
  for (const path of filesBelow(near)) utimesSync(path, long, long);
  const done = await site.json(["cleanup", "--confirm", "test"]);
  expect(done.orphans.find(({ storage }: { storage: string }) => storage === "near").count).toBeGreaterThan(
    0,
  );
  expect(
    readdirSync(near, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("manifest.json")),
  ).toHaveLength(1);
  expect(
    readdirSync(near, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("contents.jbk")),
  ).toHaveLength(1);
  expect((await site.json(["verify", "--all"])).problems).toEqual([]);
});

test("while newer backups fail, nothing more expires by age; what was in excess before still goes", async () => {
  site = await withPolicy("{within: 6s}");
  const first = await backedUp("--logical");
  await delay(6500);
  const second = await backedUp("--logical");
  const third = await backedUp("--logical");
  await killAt(site, "dumping", ["backup", "full", "--logical"]);
  await delay(6500);
  const ran = await site.json(["cleanup", "--confirm", "test"]);
  expect(ran.remove.map(({ id }: Made) => id)).toEqual([first.id]);
  expect(JSON.stringify(ran.keep.filter(({ id }: Made) => id === second.id))).toContain(
    "newer backups of its kind failed",
  );
  expect([first, second, third].map((made) => isIn("near", made))).toEqual([false, true, true]);
  await backedUp("--logical");
  await delay(6500);
  await site.json(["cleanup", "--confirm", "test"]);
  expect([second, third].map((made) => isIn("near", made))).toEqual([false, false]);
});

test.each(CLEANUP_STEPS)(
  "killed at %s, no manifest names what is gone, and the next one goes on",
  async (step) => {
    site = await withPolicy("{last: 1}");
    for (let nth = 0; nth < 3; nth++) await backedUp("--logical");
    const rows = await rowsOf("shop");
    await killAt(site, step, ["cleanup", "--confirm", "test"]);
    const verified = await site.json(["verify", "--all"]);
    expect(verified.problems).toEqual([]);
    await site.json(["cleanup", "--confirm", "test"]);
    await expectRestored("latest", rows);
  },
);

test.each([
  [["pin", "nothing", "--reason", "x"], 10, 'there is no backup "nothing"'],
  [["pin", "latest"], 2, "--reason is missing"],
  [["pin", "latest", "--reason", "x", "--until", "2020-01-01"], 2, "--until 2020-01-01 is in the past"],
])("%j is refused in one sentence", async (args, code, message) => {
  site = await withPolicy("{last: 1}");
  await backedUp("--logical");
  const ran = await site.run(...args, "--json");
  expect(ran.code).toBe(code);
  expect(JSON.parse(ran.stdout).error.message).toContain(message);
});

test.each(["{}", "{last: 0}"])(
  "the policy %s is an error of the configuration, and nothing is removed",
  async (empty) => {
    site = await withPolicy(empty);
    const ran = await site.run("cleanup", "--json");
    expect(ran.code).toBe(2);
    expect(JSON.parse(ran.stdout).error.message).toContain("an empty policy would keep nothing");
  },
);
