import {
  chmodSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { lookInTime } from "../../src/engine/doctor/check.js";
import { query } from "../support/awkward.js";
import { startB2Server } from "../support/b2Server.js";
import { openTestSite } from "../support/openedSite.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

interface Told {
  status: string;
  exit: number | null;
  /** What is not ok, as `group/name status`. */
  wrong: string[];
  checks: {
    group: string;
    name: string;
    status: string;
    message: string;
    hint: string | null;
    fixed: string | null;
  }[];
  /** The message and the hint of the first one of this name that is not ok. */
  say(name: string): string;
}

let server: TestPostgres;
let site: TestSite;
let whole: string;
let configuration: string;

async function doctor(...args: string[]): Promise<Told> {
  const ran = await site.run("doctor", "--json", ...args);
  const { status, checks } = JSON.parse(ran.stdout) as Pick<Told, "status" | "checks">;
  const wrong = checks.filter((one) => one.status !== "ok");
  return {
    status,
    checks,
    exit: ran.code,
    wrong: wrong.map((one) => `${one.group}/${one.name} ${one.status}`),
    say: (name) => {
      const found = wrong.find((one) => one.name === name);
      return `${found?.message} | ${found?.hint}`;
    },
  };
}

const configured = (...changes: [from: string | RegExp, to: string][]): Promise<void> =>
  site.configure(changes.reduce((text, [from, to]) => text.replace(from, to), configuration));

beforeAll(async () => {
  server = await startPostgres({ settings: { wal_level: "replica" } });
  await query(
    server.url(),
    "create database shop",
    "create role weak login",
    "create role limited login replication in role pg_monitor",
  );
  await query(server.url("shop"), "create table t as select 1 as a");
  site = await makeSite({
    url: server.url("shop"),
    storages: (folder) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(folder, name)}}`),
    more: ["configFiles: [etc]"],
  });
  mkdirSync(join(site.folder, "etc"));
  for (const words of [["full"], ["wal"], ["config"]]) await site.json(["backup", ...words]);
  await site.json(["verify", "--all"]);
  await site.json(["keys", "test"]);
  await site.json(["keys", "kit", "--out", join(site.folder, "kit.txt")]);
  configuration = readFileSync(site.configFile, "utf8");
  whole = join(site.folder, "whole");
  for (const part of ["home", "one", "two"])
    cpSync(join(site.folder, part), join(whole, part), { recursive: true });
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

beforeEach(() => site.configure(configuration));

afterEach(() => {
  for (const part of ["home", "one", "two"]) {
    rmSync(join(site.folder, part), { recursive: true, force: true });
    cpSync(join(whole, part), join(site.folder, part), { recursive: true });
  }
});

/** What a site of a test cannot have, or has not yet. */
const USUAL = [
  "server/checksums warn",
  "keys/recipients warn",
  "schedule/schedule warn",
  "proof/test-restore warn",
  "proof/drill warn",
  "alerts/channels warn",
];

test("a site in order fails nowhere, and every warning names the command that ends it", async () => {
  const told = await doctor();
  expect(told.wrong).toEqual(USUAL);
  expect([told.status, told.exit]).toEqual(["warn", 0]);
  for (const { status, hint } of told.checks) expect(hint === null).toBe(status === "ok");
  const groups = new Set(told.checks.map(({ group }) => group));
  expect([...groups]).toEqual([
    "configuration",
    "files",
    "server",
    "storages",
    "keys",
    "catalog",
    "schedule",
    "proof",
    "alerts",
  ]);
  const text = (await site.run("doctor")).stdout;
  expect(text).toContain("Try: jbackup verify --level restore");
  expect(text).toMatch(/0 failures, 6 warnings, \d+ ok\.\n$/);
});

test("without a configuration it says how to get one; a wrong one is told as it is", async () => {
  rmSync(site.configFile);
  const none = await site.start(["doctor"], { JBACKUP_CONFIG: "" });
  expect([none.code, none.stdout]).toEqual([2, expect.stringContaining("Try: jbackup init writes one")]);
  await configured([/^/, "sit: x\n"]);
  const wrong = await doctor();
  expect([wrong.exit, wrong.wrong]).toEqual([2, ["configuration/configuration fail"]]);
  expect(wrong.say("configuration")).toContain('unknown key "sit"; did you mean "site"?');
  await configured([/$/, "alerts: {channels: [{name: hook, kind: webhook, url: {env: NOT_SET}}]}\n"]);
  const secret = await doctor();
  expect(secret.exit).toBe(2);
  expect(secret.wrong).toContain("configuration/secrets fail");
  expect(secret.say("secrets")).toContain("NOT_SET is not set");
  expect(secret.say("channels")).toBe("nothing was ever sent through hook | jbackup alerts test");
});

test("a server that is away is one failure among findings that were made without it", async () => {
  await configured([/url: ".*"/, 'url: "postgresql://x@127.0.0.1:1/shop"']);
  const told = await doctor();
  expect(told.exit).toBe(1);
  expect(told.wrong.filter((one) => one.endsWith("fail"))).toEqual(["server/server fail"]);
  expect(told.say("server")).toMatch(
    /^cannot reach PostgreSQL at 127.0.0.1:1: .* \| check that the server runs/,
  );
  expect(told.checks.filter(({ group }) => group === "storages").length).toBeGreaterThan(3);
});

test("rights that the role lacks are named with their grants", async () => {
  await configured(["postgres@", "weak@"]);
  const weak = await doctor();
  expect(weak.exit).toBe(1);
  const rights = weak.checks.filter(({ name }) => name === "rights").map(({ hint }) => hint);
  expect(rights).toEqual([
    "as a superuser: alter role weak replication",
    "as a superuser: grant pg_monitor to weak",
    expect.stringMatching(/^as a superuser: grant execute on function pg_.*backup.* to weak$/),
    "as a superuser: grant pg_read_all_data to weak",
  ]);
  await configured(["postgres@", "limited@"]);
  const limited = await doctor();
  expect(limited.checks.filter(({ name }) => name === "rights").map(({ hint }) => hint)).toEqual([
    expect.stringMatching(/^as a superuser: grant execute on function /),
    "as a superuser: grant pg_read_all_data to limited",
  ]);
});

test("programs that are missing are a matter of the environment", async () => {
  await configured(["database: {", "database: {binDirectory: /nowhere, "]);
  const told = await doctor();
  expect(told.exit).toBe(16);
  expect(told.say("pg_dump")).toMatch(
    /^pg_dump was not found on this host \| apt-get install postgresql-client-\d+/,
  );
  expect(told.wrong).toContain("server/programs warn");
});

test("storages: another site's, emptied, not to be written, each named while the other is fine", async () => {
  const marker = join(site.folder, "two/jbackup-site.json");
  writeFileSync(marker, readFileSync(marker, "utf8").replace('"site": "test"', '"site": "other"'));
  const foreign = await doctor();
  expect(foreign.say("storage-two")).toContain("belongs to site other");
  expect(foreign.wrong).not.toContain("storages/storage-one fail");

  renameSync(join(site.folder, "two"), join(site.folder, "aside"));
  mkdirSync(join(site.folder, "two"));
  const empty = await doctor();
  expect(empty.say("storage-two")).toContain("is empty, and the catalog knows of copies in it");
  expect(empty.exit).toBe(1);

  rmSync(join(site.folder, "two"), { recursive: true });
  writeFileSync(join(site.folder, "two"), "a file");
  expect((await doctor()).say("storage-two")).toMatch(/^storage two cannot be used: .*is not a directory/);
  rmSync(join(site.folder, "two"));

  const three = `  - {name: three, kind: local, path: ${join(site.folder, "kit.txt/below-a-file")}}`;
  await configured([/^storages:\n/m, `storages:\n${three}\n`]);
  const blocked = await doctor();
  expect(blocked.say("storage-three")).toMatch(/^storage three cannot be used: /);
  expect(blocked.wrong).not.toContain("storages/storage-one fail");
  rmSync(join(site.folder, "aside"), { recursive: true });
});

test("what the credentials of a bucket may do shows by doing it", async () => {
  const b2 = await startB2Server();
  try {
    b2.createBucket("shop");
    const storage = `  - {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: shop, keyId: "${b2.keyId}", applicationKey: "${b2.applicationKey}"}`;
    await configured([/^storages:\n/m, `storages:\n${storage}\n`]);
    const free = await doctor();
    expect(free.exit).toBe(0);
    expect(free.say("rights-b2")).toContain(
      "whoever takes over this host can delete the backups in storage b2",
    );
    expect(b2.versionsOf("shop", "jbackup-check/doctor")).toEqual([]);
    for (const call of ["b2_delete_file_version", "b2_hide_file"])
      b2.faults.next(call, { kind: "refuse", status: 403, code: "access_denied" }, 10);
    expect((await doctor()).say("rights-b2")).toContain("cannot delete, and cleanup has no others");
    b2.faults.clear();
    b2.faults.next("b2_list_file_names", { kind: "refuse", status: 403, code: "access_denied" }, 10);
    b2.faults.next("upload", { kind: "refuse", status: 403, code: "cap_exceeded" }, 10);
    const denied = await doctor();
    expect(denied.wrong).toContain("storages/storage-b2 fail");
    expect(denied.wrong).not.toContain("storages/storage-one fail");
    // the file holds a key now
    chmodSync(site.configFile, 0o644);
    expect((await doctor()).say("modes")).toContain("can be read by others (mode 0644)");
    chmodSync(site.configFile, 0o600);
  } finally {
    await b2.stop();
  }
});

test("a key that opens nothing, and a catalog that is no catalog", async () => {
  await site.json(["keys", "new", "--out", join(site.folder, "others")]);
  cpSync(join(site.folder, "others/identity"), join(site.home, "keys/identity"));
  rmSync(join(site.folder, "others"), { recursive: true });
  const key = await doctor();
  expect([key.exit, key.wrong.filter((one) => one.endsWith("fail"))]).toEqual([12, ["keys/identity fail"]]);

  writeFileSync(
    join(site.home, "catalog.db"),
    "this is no database at all, however long one looks at it".repeat(50),
  );
  const catalog = await doctor();
  expect(catalog.wrong).toContain("catalog/catalog fail");
  expect(catalog.say("catalog")).toContain("catalog");
  expect(catalog.checks.some(({ group, status }) => group === "server" && status === "ok")).toBe(true);
});

test("--fix closes what stands open to others, and says so", async () => {
  const identity = join(site.home, "keys/identity");
  chmodSync(identity, 0o644);
  chmodSync(site.configFile, 0o666);
  const found = await doctor();
  expect(found.exit).toBe(1);
  expect(
    found.checks.filter(({ status, name }) => status === "fail" && name === "modes").map(({ hint }) => hint),
  ).toEqual([
    `chmod 0644 ${site.configFile}, or jbackup doctor --fix`,
    `chmod 0640 ${identity}, or jbackup doctor --fix`,
  ]);
  expect(statSync(identity).mode & 0o777).toBe(0o644);
  const fixed = await doctor("--fix");
  expect([fixed.exit, fixed.wrong]).toEqual([0, USUAL]);
  expect(fixed.checks.flatMap((one) => one.fixed ?? [])).toEqual([
    `set the mode of ${site.configFile} to 0644`,
    `set the mode of ${identity} to 0640`,
  ]);
  expect(statSync(identity).mode & 0o777).toBe(0o640);
  chmodSync(site.configFile, 0o600);
});

test("runs that are missing, tenants that are not decided, backups that grow old", async () => {
  await configured([
    /$/,
    'schedule: {full: "* * * * *", config: "* * * * *"}\ntenants: {table: app.tenants}\n',
  ]);
  const opened = await openTestSite(site);
  try {
    const [run] = await opened.catalog.runs({ job: "backup-full", limit: 1 });
    const [full] = await opened.catalog.backups({ kind: "full", limit: 1 });
    if (run === undefined || full === undefined) throw new Error("nothing was recorded");
    const hours = (many: number): string =>
      new Date(opened.clock.now().getTime() - many * 3_600_000).toISOString();
    await opened.catalog.saveRun({ ...run, startedAt: hours(48), finishedAt: hours(48) });
    await opened.catalog.saveBackups([{ ...full, createdAt: hours(48) }]);
  } finally {
    await opened.close();
  }
  const told = await doctor();
  expect(told.exit).toBe(1);
  expect(told.say("schedule-backup-full")).toMatch(
    /^backup-full should have run at .* and did not; it last did at /,
  );
  expect(told.wrong).not.toContain("schedule/schedule-backup-config fail");
  expect(told.say("full")).toBe("the last full backup was 2 days ago | jbackup backup full");
  expect(told.say("tenants")).toContain("tenants.table names app.tenants");
});

test("a check that hangs or breaks is a finding, and keeps nobody waiting", async () => {
  const opened = await openTestSite(site);
  try {
    const check = { group: "storages", name: "slow" } as const;
    const hanging = await lookInTime(opened, { ...check, look: () => new Promise(() => undefined) }, 50);
    expect(hanging).toMatchObject([{ name: "slow", status: "fail", message: "no answer within 0 s" }]);
    const broken = await lookInTime(opened, {
      ...check,
      look: async () => {
        throw new TypeError("x is not a function");
      },
    });
    expect(broken).toMatchObject([{ status: "fail", message: "x is not a function", exit: 1 }]);
  } finally {
    await opened.close();
  }
});
