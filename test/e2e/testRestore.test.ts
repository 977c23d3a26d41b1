import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { chmod, mkdtemp, open, readFile, rename, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { openCatalog } from "../../src/catalog/catalogs.js";
import type { Alert, Backup } from "../../src/domain/backup.js";
import { systemClock } from "../../src/sys/clock.js";
import { query } from "../support/awkward.js";
import { filesBelow } from "../support/files.js";
import { killAt, runUntil } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import {
  openQuery,
  type Query,
  SHOP_ROLE_SQL,
  SHOP_TENANTS,
  seedSql,
  TENANT_SHOP_SQL,
  tenantId,
} from "../support/tenantShop.js";

const TEST = ["verify", "--level", "restore"];

let server: TestPostgres;
let site: TestSite;
/** Where scratch clusters are made: whatever is left there is ours. */
let folder: string;
let programs: string;
let shop: { sql: Query; close(): Promise<void> };

interface Answered {
  status: string;
  problems: { backupId: string; storage: null; path: string; problem: string }[];
  checks: { name: string; status: string; expected: string; seen: string }[];
  storages: { name: string; objects: number }[];
  report: { text: string; json: string; html: string };
  warnings: string[];
  [key: string]: unknown;
}

const configured = (more: string[], url = server.url("shop"), programs = "auto"): Promise<void> =>
  site.configure(
    [
      "site: test",
      `database: {url: "${url}", binDirectory: ${programs}}`,
      "storages:",
      ...["one", "two"].map((name) => `  - {name: ${name}, kind: local, path: ${site.folder}/${name}}`),
      ...SHOP_TENANTS.slice(0, -1),
      "  exclude: [app.audit_log, public.ticks, public.doomed]",
      ...more,
      "",
    ].join("\n"),
  );

const asserting = (...assertions: string[]): string[] => [
  "testRestore:",
  "  assertions:",
  ...assertions.map((one) => `    - ${one}`),
];

const check = (answer: Answered, name: RegExp | string) =>
  answer.checks.find((one) => (typeof name === "string" ? one.name === name : name.test(one.name)));
const failedIn = ({ checks }: Answered): string[] =>
  checks.filter(({ status }) => status === "failed").map(({ name }) => name);
const leftBehind = (): string[] => readdirSync(folder);

const openAlerts = async (): Promise<[string, string][]> =>
  (await site.json(["alerts"])).map(({ type, fingerprint }: Record<string, string>) => [type, fingerprint]);

const storedAt = (storage: string): string => join(site.folder, storage);

/** PostgreSQL as it is where one of its packages is not installed. */
async function programsWithout(missing: string): Promise<string> {
  chmodSync(programs, 0o755);
  const bin = join(programs, "bin");
  mkdirSync(bin);
  for (const name of readdirSync(server.binDirectory))
    if (name !== missing) await symlink(join(server.binDirectory, name), join(bin, name));
  return bin;
}

async function flip(file: string): Promise<void> {
  await chmod(file, 0o600);
  const handle = await open(file, "r+");
  try {
    const byte = Buffer.alloc(1);
    const at = Math.floor(statSync(file).size / 2);
    await handle.read(byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ 0xff;
    await handle.write(byte, 0, 1, at);
  } finally {
    await handle.close();
  }
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-tr-"));
  chmodSync(folder, 0o755);
  programs = await mkdtemp(join(tmpdir(), "jbackup-programs-"));
  server = await startPostgres({
    initdb: ["-k"],
    settings: { wal_level: "replica", full_page_writes: "on" },
  });
  await query(server.url(), "create database shop");
  shop = await openQuery(server.url("shop"));
  await shop.sql(TENANT_SHOP_SQL + SHOP_ROLE_SQL + seedSql(1, 2, 6));
  await shop.sql("create table ticks as select generate_series(1, 50) as id; analyze ticks");
  // tenants may refer to each other's rows
  await shop.sql(
    `update app.customers set referred_by = (select min(id) from app.customers where tenant_id = '${tenantId(2)}') where tenant_id = '${tenantId(1)}'`,
  );
  site = await makeSite({ url: server.url("shop"), environment: { TMPDIR: folder }, here: true });
  await configured([]);
  await site.json(["backup", "wal"]);
  await site.json(["backup", "full"]);
  await site.json(["backup", "tenant", "--all"]);
  await shop.sql("insert into ticks select generate_series(51, 80)");
  await site.json(["backup", "wal"]);
});

afterEach(() => expect(leftBehind()).toEqual([]));

afterAll(async () => {
  await shop?.close();
  await site?.remove();
  await server?.stop();
  for (const one of [folder, programs]) await rm(one, { recursive: true, force: true });
});

test("the newest physical backup comes up with all WAL behind it, is looked at from every side, and a signed report is kept", async () => {
  await configured(
    asserting(
      '{name: rows from after the backup, sql: "select count(*) from ticks", expect: 80}',
      '{name: nobody lost, sql: "select not exists (select from app.sale_items i where not exists (select from app.sales s where s.id = i.sale_id));"}',
      '{name: the other database, database: postgres, sql: "select current_database()", expect: postgres}',
    ),
  );
  const [before] = await site.json(["list", "--kind", "full"]);
  expect(before.status).toBe("completed");
  const copy = join(site.folder, "proof.html");
  const answer: Answered = await site.json([...TEST, "--tenant-sample", "2", "--report", copy]);
  expect(answer).toMatchObject({
    level: "restore",
    problems: [],
    healed: [],
    status: "passed",
    backupId: before.id,
    method: "physical",
    missed: [],
  });
  expect(answer.checked).toBe(answer.checks.length);
  expect(answer.checks.map(({ name, status }) => [name.replace(/[0-9a-f-]{36}/, "ID"), status])).toEqual([
    ["restore", "passed"],
    ["wal", "passed"],
    ["databases", "passed"],
    ["rows", "passed"],
    ["assertion rows from after the backup", "passed"],
    ["assertion nobody lost", "passed"],
    ["assertion the other database", "passed"],
    ["tenants", "passed"],
    ["tenant ID: rows", "passed"],
    ["tenant ID: restore", "passed"],
    ["tenant ID: rows", "passed"],
    ["tenant ID: restore", "passed"],
    ["structure", "passed"],
    ["checksums", "passed"],
  ]);
  expect(check(answer, /: rows$/)?.seen).toMatch(/^all 18 tables equal by SHA-256, \d+ rows$/);
  expect(answer.durationMs).toBeGreaterThanOrEqual(answer.rtoMs as number);

  const signed = JSON.parse(await readFile(answer.report.json, "utf8"));
  const ticks = signed.report.tables.find(({ table }: { table: string }) => table === "public.ticks");
  expect(ticks).toEqual({ table: "public.ticks", recorded: 50, restored: 80 });
  expect(signed.report.backup.manifestSha256).toBe(before.checksum);
  const page = await readFile(copy, "utf8");
  expect(page).toContain(`<td>assertion nobody lost</td><td class="passed">passed</td>`);
  expect(page).not.toMatch(/(src|href)=/);
  const text = await readFile(answer.report.text, "utf8");
  expect(text).toContain(`SHA-256 of its signed manifest: ${before.checksum}`);
  for (const file of [copy, ...Object.values(answer.report)]) expect(statSync(file).mode & 0o777).toBe(0o600);

  const [after] = await site.json(["list", "--kind", "full"]);
  expect(after.status).toBe("verified");
  const shown = await site.json(["show", before.id]);
  expect(shown.verifications[0]).toMatchObject({
    level: "restore",
    status: "passed",
    metadata: { missed: [], storages: ["one"] },
  });
  expect(await openAlerts()).toEqual([]);

  // the report cannot be changed unseen
  expect((await site.run("verify", "--check-report", copy)).code).toBe(0);
  expect((await site.json(["verify", "--check-report", answer.report.json])).valid).toBe(true);
  writeFileSync(copy, page.replace("<td>80</td>", "<td>81</td>"));
  const retouched = await site.run("verify", "--check-report", copy);
  expect([retouched.code, retouched.stderr]).toEqual([4, expect.stringContaining("is not what was signed")]);
  signed.report.rtoMs = 1;
  writeFileSync(copy.replace(".html", ".json"), JSON.stringify(signed));
  const changed = await site.run("verify", "--check-report", copy.replace(".html", ".json"));
  expect([changed.code, changed.stderr]).toEqual([4, expect.stringContaining("or was changed")]);
});

test("what does not hold fails the test with exit 4 and an alert", async () => {
  await configured(
    asserting(
      '{name: wrong number, sql: "select count(*) from ticks", expect: 79}',
      '{name: no answer, sql: "select true where false"}',
      '{name: takes too long, sql: "select true from pg_sleep(20)"}',
      '{name: would write, sql: "with new as (insert into ticks values (0) returning 1) select true"}',
      '{name: no such database, database: nowhere, sql: "select true"}',
    ).concat("  timeout: 300ms", "  tenants: 0", 'schedule: {testRestore: "0 7 1 * *"}'),
  );
  const answer: Answered = await site.json(TEST, [4]);
  expect(answer.status).toBe("failed");
  expect(failedIn(answer)).toEqual([
    "assertion wrong number",
    "assertion no answer",
    "assertion takes too long",
    "assertion would write",
    "assertion no such database",
  ]);
  expect(answer.problems.map(({ problem }) => problem)).toEqual([
    "80",
    "no row",
    "canceling statement due to statement timeout",
    expect.stringContaining("must not contain data-modifying statements"),
    'database "nowhere" does not exist',
  ]);
  expect(await openAlerts()).toEqual([["RESTORE_FAILURE", "failed:test-restore:physical"]]);
});

test("a test that never ran, one that was killed, one that is too slow: each is told, and resolved when it is over", async () => {
  const catalog = await openCatalog(`sqlite:${join(site.home, "catalog.db")}`, { clock: systemClock });
  for (const run of await catalog.runs({ job: "test-restore" }))
    await catalog.saveRun({ ...run, startedAt: "2020-01-01T00:00:00.000Z" });
  await catalog.close();
  await configured([
    "testRestore: {tenants: 0}",
    'schedule: {testRestore: "0 7 1 * *"}',
    "objectives: {rto: 1ms}",
  ]);
  await site.json(["alerts", "check"]);
  expect(await openAlerts()).toContainEqual(["STALE_BACKUP", "missed:test-restore"]);

  await killAt(site, "scratch-up", TEST);
  const [left] = leftBehind();
  expect(left).toMatch(/^jbackup-scratch-/);
  const pid = Number(readFileSync(join(folder, left ?? "", "data/postmaster.pid"), "utf8").split("\n")[0]);
  expect(existsSync(`/proc/${pid}`)).toBe(true);
  const next = await site.run(...TEST);
  expect(next.code, next.stderr).toBe(15);
  expect(existsSync(`/proc/${pid}`)).toBe(false);
  expect(next.stdout).toMatch(/^ {2}ok {6}rows {26}\d+ rows in \d+ tables\n/m);
  expect(next.stdout).toMatch(/^ {2}back after {2}[\d.]+ s \(objective 0.0 s: MISSED\)\n {2}work lost /m);
  expect(await openAlerts()).toEqual([["DURATION_THRESHOLD", "rto:test-restore:physical"]]);
  const resolved = await site.json(["alerts", "--status", "resolved"]);
  expect(resolved.map(({ fingerprint }: { fingerprint: string }) => fingerprint)).toEqual(
    expect.arrayContaining([
      "missed:test-restore",
      "interrupted:test-restore",
      "failed:test-restore:physical",
    ]),
  );
});

test("no backup waits for it, it waits for none, and it ends when it is told to", async () => {
  await configured(["testRestore: {tenants: 0}"]);
  const { pid, ended } = await runUntil(site, "scratch-up", TEST);
  await site.json(["backup", "wal"]);
  await site.json(["backup", "full"]);
  const second = await site.run(...TEST);
  expect([second.code, second.stderr]).toEqual([11, expect.stringContaining("another test-restore")]);
  process.kill(pid, "SIGTERM");
  process.kill(pid, "SIGCONT");
  expect((await ended).code).toBe(143);
});

test("damaged copies are passed over, and told; without a good one the test fails", async () => {
  const packs = filesBelow(storedAt("one")).filter((file) => file.endsWith(".jbk"));
  for (const pack of packs) await flip(pack);
  try {
    const answer: Answered = await site.json(TEST);
    expect(answer.status).toBe("passed");
    expect(answer.warnings.join("\n")).toContain("storage one:");
    expect(answer.storages.map(({ objects }) => objects > 0)).toEqual([true, true]);
    // what the last test missed is made good: only the copies are to be told of
    expect(new Set((await openAlerts()).map(([type]) => type))).toEqual(new Set(["INTEGRITY_FAILURE"]));

    // nothing good is left: the report says so, and nothing was brought up
    const contents = filesBelow(join(storedAt("two"), "backups/full")).filter((file) =>
      file.endsWith("contents.jbk"),
    );
    for (const file of contents) await flip(file);
    const status = async () => (await site.json(["list", "--kind", "full", "--limit", "1"]))[0].status;
    expect(await status()).toBe("verified");
    const hopeless: Answered = await site.json(TEST, [4]);
    expect(failedIn(hopeless)).toEqual(["restore"]);
    expect(hopeless.problems[0]?.problem).toMatch(/^no storage has a good copy of /);
    expect(await status()).toBe("completed");
    for (const file of contents) await flip(file);
  } finally {
    for (const pack of packs) await flip(pack);
  }
});

test("a logical backup comes back on an empty server, to the row, while production and a storage are not even there", async () => {
  const older = await site.json(["backup", "full", "--logical"]);
  const made = await site.json(["backup", "full", "--logical"]);
  await shop.sql("insert into ticks select generate_series(81, 90)");
  await configured(
    [
      ...asserting('{name: as in the snapshot, sql: "select count(*) from ticks", expect: 80}'),
      "retention: {one: {last: 1}, two: {last: 1}}",
    ],
    "postgresql://postgres@/shop?host=/nowhere",
    await programsWithout("pg_amcheck"),
  );
  const catalog = await openCatalog(`sqlite:${join(site.home, "catalog.db")}`, { clock: systemClock });
  const [failed] = await catalog.alerts({ fingerprint: "failed:test-restore:physical" });
  await catalog.saveAlert({ ...(failed as Alert), status: "acknowledged" });
  await catalog.close();
  const cleaned = async () =>
    (await site.json(["cleanup", "--dry-run"])).keep.find(({ id }: Backup) => id === older.id);
  // an older one that passes does not make up for it
  const other: Answered = await site.json([...TEST, older.id, "--tenant-sample", "0"]);
  expect([other.status, other.missed]).toEqual(["passed", []]);
  expect(await readFile(other.report.text, "utf8")).toContain("an older backup was chosen");
  expect((await cleaned()).reasons).toContain(
    "the last test restore failed: older backups may be all that can be restored",
  );
  await rename(storedAt("one"), `${storedAt("one")}-away`);
  let answer: Answered;
  try {
    answer = await site.json(TEST);
  } finally {
    await rm(storedAt("one"), { recursive: true, force: true });
    await rename(`${storedAt("one")}-away`, storedAt("one"));
  }
  expect(answer).toMatchObject({ status: "passed", backupId: made.id, method: "logical" });
  // a dump that comes back does not make up for files that did not
  expect((await openAlerts()).map(([, fingerprint]) => fingerprint)).toContain(
    "failed:test-restore:physical",
  );
  const [files] = (await site.json(["list", "--kind", "full"])).filter(
    ({ method }: Backup) => method === "physical",
  );
  const again: Answered = await site.json([...TEST, files.id, "--tenant-sample", "0"]);
  expect(again).toMatchObject({ status: "passed", method: "physical" });
  expect((await openAlerts()).map(([, fingerprint]) => fingerprint)).not.toContain(
    "failed:test-restore:physical",
  );
  expect(await cleaned()).toBeUndefined();
  expect(answer.storages.map(({ name, objects }) => [name, objects > 3])).toEqual([
    ["one", false],
    ["two", true],
  ]);
  expect(check(answer, "rows")).toMatchObject({
    status: "passed",
    expected: expect.stringMatching(/^exactly the .* counted in the snapshot/),
  });
  expect(check(answer, /: restore$/)?.status).toBe("passed");
  expect(check(answer, "checksums")?.status).toBe("noted");
  expect(check(answer, "structure")?.status).toBe("skipped");
  expect(answer.warnings).toContain(
    `structure was not checked: pg_amcheck was not found in ${join(programs, "bin")}`,
  );
});

test("a tenant that went on working differs from its backup without failing, and one without a backup is read and brought back", async () => {
  await configured([]);
  const name = (nth: number): string => `tenant ${tenantId(nth)}`;
  await shop.sql(`update app.items set cost = cost + 1 where tenant_id = '${tenantId(2)}'`);
  await shop.sql(seedSql(8, 8, 4));
  await site.json(["backup", "full"]);
  const answer: Answered = await site.json([...TEST, "--tenant-sample", "3"]);
  expect(failedIn(answer)).toEqual([]);
  expect(check(answer, `${name(2)}: rows`)).toMatchObject({
    status: "noted",
    seen: expect.stringMatching(/^17 of 18 tables equal by SHA-256; others changed in between: app.items /),
  });
  expect(check(answer, `${name(8)}: rows`)).toMatchObject({
    status: "noted",
    seen: expect.stringMatching(/^it has none; /),
  });
  for (const nth of [1, 2, 8])
    expect(check(answer, `${name(nth)}: restore`)).toMatchObject({
      status: "passed",
      seen: expect.stringMatching(
        /^\d+ rows taken out; \d+ rows back in 18 tables, equal by SHA-256; \d+ foreign keys hold$/,
      ),
    });
});

test("damage that came with the cluster, and a hole in the WAL, are found by the checks", async () => {
  await configured(
    asserting('{name: as far as it leads, sql: "select max(id) from ticks", expect: 101}').concat(
      "  tenants: 0",
    ),
  );
  await shop.sql(
    "create table doomed as select g as id, md5(g::text) as text from generate_series(1, 20000) g; checkpoint",
  );
  const [place] = await shop.sql("select pg_relation_filepath('doomed') as path");
  await flip(join(server.dataDirectory, place?.path ?? ""));
  await site.json(["backup", "full"], [4]);
  const segments = (): string[] => filesBelow(join(storedAt("one"), "wal"));
  for (const id of [101, 102, 103]) {
    const before = new Set(segments());
    await shop.sql(`insert into ticks values (${id})`);
    await site.json(["backup", "wal"]);
    const lost = segments().filter((file) => !before.has(file) && /\/[0-9A-F]{24}\.jbk$/.test(file));
    if (id === 102)
      for (const file of lost)
        for (const name of ["one", "two"]) await rm(file.replace("/one/", `/${name}/`));
  }
  const answer: Answered = await site.json(TEST, [4]);
  expect(failedIn(answer)).toEqual(["wal", "rows", "structure", "checksums"]);
  expect(check(answer, "wal")?.seen).toMatch(/^\d files replayed, up to .*; WAL is missing \(/);
  expect(check(answer, "rows")?.seen).toMatch(/^invalid page in block \d+ of relation/);
  expect(check(answer, "assertion as far as it leads")?.seen).toBe("101");
});

test("what makes no sense is refused before anything is restored", async () => {
  const refusals: [string[], number, string][] = [
    [[...TEST, "--all"], 2, "--all has no meaning with --level restore"],
    [[...TEST, "--heal"], 2, "--heal has no meaning with --level restore"],
    [[...TEST, "--tenant-sample", "many"], 2, '--tenant-sample cannot be "many"'],
    [[...TEST, "--report", "proof.pdf"], 2, "--report proof.pdf: the name tells no form"],
    [[...TEST, "--report", "/nowhere/proof.html"], 2, "nothing can be written into /nowhere"],
    [["verify", "--report", "proof.html"], 2, "--report works with --level restore"],
    [[...TEST, "nothing-20200101"], 10, "nothing-20200101"],
    [["verify", "--check-report", "/nowhere/proof.html"], 10, "cannot read /nowhere/proof.html"],
  ];
  for (const [args, code, message] of refusals) {
    const ran = await site.run(...args);
    expect([args, ran.code, ran.stderr]).toEqual([args, code, expect.stringContaining(message)]);
  }
  const [tenant] = await site.json(["list", "--kind", "tenant", "--limit", "1"]);
  const ofTenant = await site.run(...TEST, tenant.label);
  expect([ofTenant.code, ofTenant.stderr]).toEqual([2, expect.stringContaining("is no full backup")]);
});
