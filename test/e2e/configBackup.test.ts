import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { ConfigRecord } from "../../src/domain/configBackup.js";
import { draftOf } from "../../src/engine/backup/record.js";
import { storeArchive } from "../../src/engine/backup/storeArchive.js";
import { addText } from "../../src/engine/configFiles/serverEntries.js";
import { sealingKeys } from "../../src/engine/siteKeys.js";
import { storagesForWriting } from "../../src/engine/useStorages.js";
import { query } from "../support/awkward.js";
import { filesBelow } from "../support/files.js";
import { killAt } from "../support/kill.js";
import { openTestSite } from "../support/openedSite.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

const isRoot = process.getuid?.() === 0;
const hasAcl = spawnSync("setfacl", ["--version"]).status === 0;
const STRANGER = 4_321;

let server: TestPostgres;
let site: TestSite;
let etc: string;
let round = 0;

beforeAll(async () => {
  server = await startPostgres({ settings: { wal_level: "replica", work_mem: "7MB" } });
  await query(server.url(), "create role app_user login password 'geheim-42'", "create database shop");
  await query(
    server.url("shop"),
    "create extension if not exists pg_trgm",
    "create table t as select 1 as a",
  );
});

afterAll(() => server?.stop());

beforeEach(async () => {
  round++;
  site = await makeSite({
    url: server.url("shop"),
    storages: (folder) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(folder, name)}}`),
    more: ["minCopies: 1", "configFiles: [etc]"],
  });
  etc = join(realpathSync(site.folder), "etc");
  writeTree();
});

afterEach(() => site?.remove());

/** Modes, owners, times, links, odd names, a file of more than one piece. */
function writeTree(): void {
  mkdirSync(join(etc, "conf.d/deep"), { recursive: true });
  mkdirSync(join(etc, "empty"), { mode: 0o711 });
  writeFileSync(join(etc, "postgresql.conf"), `# round ${round}\nwork_mem = '7MB'\n`);
  writeFileSync(join(etc, "secret.key"), "-----BEGIN KEY-----\n", { mode: 0o600 });
  writeFileSync(join(etc, "conf.d/deep/00-a.conf"), "");
  writeFileSync(join(etc, "conf.d/ü b\n'c.conf"), "odd");
  writeFileSync(join(etc, "large"), Buffer.alloc(3_000_001, "0123456789abcdef"));
  symlinkSync("../postgresql.conf", join(etc, "conf.d/inside"));
  symlinkSync("/etc/passwd", join(etc, "conf.d/outside"));
  symlinkSync("nowhere", join(etc, "dangling"));
  chmodSync(join(etc, "conf.d"), 0o2750);
  if (isRoot) chownSync(join(etc, "postgresql.conf"), STRANGER, STRANGER);
  chmodSync(join(etc, "postgresql.conf"), 0o640);
  if (hasAcl) spawnSync("setfacl", ["-m", `u:${STRANGER}:r`, join(etc, "secret.key")]);
  const past = 1_600_000_000.25;
  lutimesSync(join(etc, "dangling"), past, past);
  utimesSync(join(etc, "large"), past, past);
  utimesSync(join(etc, "conf.d"), past, past);
}

const digestOf = (content: Buffer): string => createHash("sha256").update(content).digest("hex");

/** Everything about a tree that a restore must bring back. */
function treeOf(folder: string): Record<string, string> {
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return Object.fromEntries(
    ["", ...paths].map((path) => {
      const full = join(folder, path);
      const stat = lstatSync(full);
      const timeUs = lstatSync(full, { bigint: true }).mtimeNs / 1000n;
      const acl =
        hasAcl && !stat.isSymbolicLink()
          ? spawnSync("getfacl", ["-acnE", "--absolute-names", full], { encoding: "utf8" }).stdout
          : "";
      const what = stat.isSymbolicLink()
        ? `-> ${readlinkSync(full)}`
        : stat.isFile()
          ? digestOf(readFileSync(full))
          : "";
      return [path, [(stat.mode & 0o7777).toString(8), stat.uid, stat.gid, timeUs, acl, what].join(" ")];
    }),
  );
}

const restoreInto = async (folder: string, reference = "latest"): Promise<string> => {
  const into = join(site.folder, folder);
  await site.json(["restore", reference, "--config-files", "--into-dir", into, "--reason", "test"]);
  return into;
};

test("files come back byte for byte, with modes, owners, times, links and access lists; so does what the server says", async () => {
  const before = treeOf(etc);
  const backup = await site.json(["backup", "config", "--note", "as it was"]);
  expect(backup).toMatchObject({
    kind: "config",
    method: null,
    status: "completed",
    note: "as it was",
    metadata: { files: 6, missed: 0, hasServer: true },
  });
  expect(
    backup.copies.map(({ status, path }: { status: string; path: string }) => [status, path.split("/")[1]]),
  ).toEqual([
    ["stored", "config"],
    ["stored", "config"],
  ]);
  const into = await restoreInto("out", backup.id);
  expect(treeOf(join(into, "files", etc))).toEqual(before);
  expect(lstatSync(into).mode & 0o777).toBe(0o700);
  const read = (name: string): string => readFileSync(join(into, "postgres", name), "utf8");
  expect(JSON.parse(read("settings.json"))).toContainEqual(
    expect.objectContaining({ name: "work_mem", value: "7168", unit: "kB" }),
  );
  expect(JSON.parse(read("hba.json")).length).toBeGreaterThan(0);
  expect(read("roles.sql")).toMatch(/CREATE ROLE app_user;[\s\S]*PASSWORD 'SCRAM-SHA-256/);
  const shop = JSON.parse(read("databases.json")).find(({ name }: { name: string }) => name === "shop");
  expect(shop.extensions.map(({ name }: { name: string }) => name)).toContain("pg_trgm");
  expect(readFileSync(join(into, "postgres/raw", server.dataDirectory, "pg_hba.conf"), "utf8")).toBe(
    readFileSync(join(server.dataDirectory, "pg_hba.conf"), "utf8"),
  );
  expect(readFileSync(join(into, "install-plan.md"), "utf8")).toContain(
    `jbackup restore ${backup.label} --in-place`,
  );

  // nothing of it can be read without a key
  for (const path of filesBelow(join(site.folder, "one"))) {
    const stored = readFileSync(path, "latin1");
    for (const secret of ["BEGIN KEY", "SCRAM-SHA", "secret.key"]) expect(stored, path).not.toContain(secret);
  }
  // the other commands know it
  expect(await site.json(["list", "--kind", "config"])).toHaveLength(1);
  const shown = await site.json(["show", backup.label]);
  expect(shown.contents.map(({ name }: { name: string }) => name)).toContain(`files${etc}/postgresql.conf`);
  expect(shown.restores).toHaveLength(1);
  expect(await site.json(["verify", "--all", "--level", "content"])).toMatchObject({ problems: [] });
  expect((await site.json(["cleanup", "--dry-run"])).remove).toEqual([]);
  const full = await site.run("restore", "latest", "--mode", "full", "--into-db", "x", "--reason", "none");
  expect([full.code, full.stderr]).toEqual([10, expect.stringContaining("there is no backup yet")]);
});

test("what vanished, cannot be read or is no file is named, and the rest is kept", async () => {
  spawnSync("mkfifo", [join(etc, "pipe")]);
  writeFileSync(Buffer.concat([Buffer.from(`${etc}/bad`), Buffer.from([0xff])]), "x");
  if (!isRoot) chmodSync(join(etc, "secret.key"), 0);
  await site.configure(readFileSync(site.configFile, "utf8").replace("[etc]", "[etc, etc/gone, one]"));
  const ran = await site.run("backup", "config", "--json");
  const backup = JSON.parse(ran.stdout);
  expect(ran.code).toBe(3);
  const told: string[] = backup.warnings;
  expect(told).toContain(`${etc}/gone is missing: it is not there`);
  expect(told).toContain(`${etc}/bad\ufffd is missing: its name is no valid UTF-8`);
  expect(told).toContain(`${etc}/pipe is a pipe, and is left out`);
  expect(told).toContain(`${join(etc, "../one")} holds backups, and is left out`);
  if (!isRoot) expect(told).toContain(`${etc}/secret.key is missing: this user may not read it`);
  expect(backup.metadata.missed).toBe(isRoot ? 2 : 3);
  const into = await restoreInto("out");
  expect(readFileSync(join(into, "files", etc, "postgresql.conf"))).toEqual(
    readFileSync(join(etc, "postgresql.conf")),
  );
  expect(existsSync(join(into, "files", etc, "pipe"))).toBe(false);
  const [alert] = await site.json(["alerts"]);
  expect(alert).toMatchObject({ type: "BACKUP_FAILURE", severity: "warning", backupId: backup.id });
  // the manifest, which needs no key, does not tell names
  const manifest = filesBelow(join(site.folder, "one")).find((path) => path.endsWith("manifest.json")) ?? "";
  expect(readFileSync(manifest, "utf8")).not.toContain("gone");
});

test("a database that is down costs only what it would have said", async () => {
  const text = readFileSync(site.configFile, "utf8");
  await site.configure(text.replace(/url: ".*"/, 'url: "postgresql://x@127.0.0.1:1/shop"'));
  const ran = await site.run("backup", "config", "--json");
  expect(ran.code).toBe(3);
  const backup = JSON.parse(ran.stdout);
  expect(backup.warnings[0]).toContain("what the server says of itself is missing: cannot reach PostgreSQL");
  const into = await restoreInto("out");
  expect(treeOf(join(into, "files", etc))).toEqual(treeOf(etc));
  expect(readFileSync(join(into, "install-plan.md"), "utf8")).toContain("could not be asked");
});

test("in place only what differs is replaced, after a look and a name; what was there is kept", async () => {
  await site.json(["backup", "config"]);
  const before = treeOf(etc);
  const changed = "# changed by hand\n";
  writeFileSync(join(etc, "postgresql.conf"), changed);
  chmodSync(join(etc, "secret.key"), 0o644);
  rmSync(join(etc, "large"));
  rmSync(join(etc, "conf.d/deep"), { recursive: true });
  rmSync(join(etc, "dangling"));
  symlinkSync("elsewhere", join(etc, "dangling"));
  writeFileSync(join(etc, "new.conf"), "stays");
  const plan = await site.json(["restore", "--config-files", "--in-place", "--dry-run"]);
  const stateOf = Object.fromEntries(
    plan.files.map(({ path, state }: { path: string; state: string }) => [path.slice(etc.length + 1), state]),
  );
  expect(stateOf).toMatchObject({
    "postgresql.conf": "changed",
    "secret.key": "attributes",
    large: "missing",
    "conf.d/deep": "missing",
    "conf.d/deep/00-a.conf": "missing",
    dangling: "changed",
    "new.conf": "extra",
    "conf.d/outside": "same",
    empty: "same",
  });
  expect(plan.overwrites).toBe(hostname());
  const words = ["restore", "--config-files", "--in-place", "--reason", "test"];
  const refused = await site.run(...words);
  expect(refused.code).toBe(13);
  expect(refused.stderr).toContain(`--confirm ${hostname()}`);
  expect(readFileSync(join(etc, "postgresql.conf"), "utf8")).toBe(changed);

  // killed in the middle, it goes on
  const confirmed = [...words, "--confirm", hostname()];
  await killAt(site, "config-file-placed", confirmed);
  const done = await site.json(confirmed);
  expect(done).toMatchObject({ status: "completed", target: hostname(), metadata: { extra: 1 } });
  expect(readFileSync(join(etc, "new.conf"), "utf8")).toBe("stays");
  rmSync(join(etc, "new.conf"));
  const after = treeOf(etc);
  for (const folder of ["", "conf.d"]) {
    // a folder that stayed has the time of what was done in it
    const withoutTime = (line = ""): string => line.replace(/^(\S+ \S+ \S+) \S+/, "$1");
    after[folder] = withoutTime(after[folder]);
    before[folder] = withoutTime(before[folder]);
  }
  expect(after).toEqual(before);
  const kept = filesBelow(join(site.home, "replaced")).filter((path) => path.endsWith("postgresql.conf"));
  expect(kept.map((path) => readFileSync(path, "utf8"))).toEqual([changed]);
  const again = await site.json(confirmed.filter((word) => word !== "--confirm" && word !== hostname()));
  expect(again.metadata).toMatchObject({ changed: 0, missing: 0, attributes: 0, inTheWay: 0 });
  for (const key of Object.keys(again.metadata)) expect(key).toMatch(/^[a-z][A-Za-z]*$/);
});

test("only the named paths, and nothing through a link that somebody put in the way", async () => {
  await site.json(["backup", "config"]);
  writeFileSync(join(etc, "postgresql.conf"), "other");
  rmSync(join(etc, "large"));
  const confirm = ["--reason", "test", "--confirm", hostname()];
  await site.json([
    "restore",
    "--config-files",
    "--in-place",
    "--paths",
    join(etc, "postgresql.conf"),
    ...confirm,
  ]);
  expect(readFileSync(join(etc, "postgresql.conf"), "utf8")).toContain(`# round ${round}`);
  expect(existsSync(join(etc, "large"))).toBe(false);

  const outside = join(site.folder, "outside");
  renameSync(join(etc, "conf.d"), outside);
  rmSync(join(outside, "deep"), { recursive: true });
  symlinkSync(outside, join(etc, "conf.d"));
  const ran = await site.run("restore", "--config-files", "--in-place", ...confirm);
  expect(ran.code).toBe(14);
  expect(ran.stderr).toContain(`${etc}/conf.d is a link here, and a folder in the backup`);
  expect(existsSync(join(outside, "deep"))).toBe(false);
  expect(existsSync(join(etc, "large"))).toBe(false);
});

test("a storage that is away gets its copy from the next run", async () => {
  const blocked = join(site.folder, "two");
  writeFileSync(blocked, "no folder");
  const ran = await site.run("backup", "config", "--json");
  expect(ran.code).toBe(3);
  const first = JSON.parse(ran.stdout);
  expect(first.copies.map(({ status }: { status: string }) => status)).toEqual(["stored", "missing"]);
  expect((await site.json(["alerts"])).map(({ type }: { type: string }) => type)).toContain("COPY_MISSING");
  rmSync(blocked);
  await site.json(["backup", "config"]);
  const healed = await site.json(["show", first.id]);
  expect(healed.copies.map(({ status }: { status: string }) => status)).toEqual(["stored", "stored"]);
  expect(await site.json(["alerts"])).toEqual([]);
  rmSync(join(site.folder, "one"), { recursive: true });
  const into = join(site.folder, "from-two");
  await site.json(["restore", first.id, "--into-dir", into, "--reason", "test"]);
  expect(treeOf(join(into, "files", etc))).toEqual(treeOf(etc));
});

test("a run that was killed leaves nothing that counts, and the next one says so", async () => {
  await killAt(site, "object-stored", ["backup", "config"]);
  const ran = await site.run("backup", "config", "--json");
  expect(ran.code).toBe(0);
  expect(ran.stderr).toContain("was interrupted by a crash or a kill");
  expect((await site.json(["list"])).map(({ status }: { status: string }) => status)).toEqual([
    "completed",
    "interrupted",
  ]);
  rmSync(join(site.home, "catalog.db"));
  expect(await site.json(["catalog", "rebuild"])).toMatchObject({ found: 1, added: 1 });
  await restoreInto("out");
});

test("a planted folder that looks newer than any other is passed over when the catalog is lost", async () => {
  const good = await site.json(["backup", "config"]);
  const planted = "ffffffff-ffff-7fff-bfff-ffffffffffff";
  const place = join(site.folder, "one/backups/config/2099/01", planted);
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, "manifest.json"), "{}");
  rmSync(join(site.home, "catalog.db"));
  const into = join(site.folder, "out");
  const wish = ["restore", "latest", "--config-files", "--into-dir", into, "--reason", "test"];
  const ran = await site.run(...wish);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stderr).toContain(`backup ${planted} is passed over: `);
  expect(treeOf(join(into, "files", etc))).toEqual(treeOf(etc));
  expect((await site.json(["alerts"]))[0]).toMatchObject({ type: "SECURITY", backupId: planted });
  for (const { path } of good.copies.filter(({ storage }: { storage: string }) => storage === "one"))
    rmSync(join(site.folder, "one", path, "manifest.json"));
  rmSync(join(site.folder, "two"), { recursive: true });
  expect((await site.run(...wish.with(4, `${into}-2`))).code).toBe(4);
});

test("--with-config runs it behind another backup, and tells both", async () => {
  const both = await site.json(["backup", "full", "--logical", "--with-config"]);
  expect(both).toMatchObject({ kind: "full", config: { kind: "config", status: "completed" } });
  writeFileSync(join(site.folder, "gone"), "");
  await site.configure(readFileSync(site.configFile, "utf8").replace("[etc]", "[etc, nothing]"));
  const ran = await site.run("backup", "full", "--logical", "--with-config");
  expect(ran.code).toBe(3);
  expect(ran.stdout).toContain("nothing is missing: it is not there");
});

test("a crafted list of files is refused whole, and what is mistyped is said", async () => {
  const whole = await site.json(["backup", "config"]);
  const opened = await openTestSite(site);
  try {
    const base = { mode: 0o644, uid: 0, gid: 0, user: null, group: null, mtimeMs: 0 };
    const records: ConfigRecord[] = [
      { kind: "link", path: "/jbackup-x", target: site.folder, ...base },
      { kind: "file", path: "/jbackup-x/planted", entry: "files/planted", bytes: 4, ...base },
    ];
    const draft = draftOf(
      opened,
      {
        id: opened.newId(),
        by: "nobody",
        startedAt: opened.clock.now(),
        settleKilled: async () => [],
        note: () => undefined,
      },
      { kind: "config", method: null, note: null },
    );
    const stored = await storeArchive(
      opened,
      draft,
      await sealingKeys(opened),
      await storagesForWriting(opened),
      {
        expectedBytes: 1,
        fill: async (archive) => {
          await addText(archive, "files/planted", "evil");
          const facts = {
            server: null,
            timeline: null,
            startLsn: null,
            endLsn: null,
            parentId: null,
            warnings: [],
          };
          return {
            ...facts,
            metadata: {},
            detail: { config: { host: "h", roots: [], records, missed: [], server: null } },
          };
        },
      },
    );
    await opened.catalog.saveBackups([stored]);
    const into = join(site.folder, "out");
    const ran = await site.run("restore", stored.id, "--into-dir", into, "--reason", "test");
    expect(ran.code).toBe(4);
    expect(ran.stderr).toContain("/jbackup-x/planted lies below /jbackup-x, which is a link");
    expect(existsSync(join(site.folder, "planted"))).toBe(false);
    expect(existsSync(into)).toBe(false);
  } finally {
    await opened.close();
  }
  const say = async (...args: string[]): Promise<[number | null, string]> => {
    const { code, stderr } = await site.run(...args);
    return [code, stderr.split("\n")[0] ?? ""];
  };
  expect(await say("restore", "--config-files", "--reason", "x")).toEqual([
    2,
    "Error: where the configuration files go is not said",
  ]);
  expect(
    await say("restore", "--config-files", "--into-dir", "x", "--mode", "full", "--reason", "x"),
  ).toEqual([2, "Error: --mode does not work with configuration files"]);
  expect(await say("restore", whole.id, "--config-files", "--into-dir", etc, "--reason", "x")).toEqual([
    14,
    `Error: ${etc} is not empty`,
  ]);
});
