import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { portOfOwn } from "../support/servers.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let port: string;
let site: TestSite;
let config: string;

beforeAll(async () => {
  port = portOfOwn();
  server = await startPostgres({
    settings: { listen_addresses: "'127.0.0.1'", port },
    hba: ["host all guarded 127.0.0.1/32 scram-sha-256"],
  });
  await query(server.url(), "create role guarded login password 'Sesame-4711'", "create database shop");
  await query(server.url("shop"), "create table t as select g as id from generate_series(1, 10) g");
  site = await makeSite({ here: true, url: server.url("shop") });
  config = readFileSync(site.configFile, "utf8");
  await site.json(["backup", "full", "--logical"]);
  await site.json(["backup", "full", "--logical"]);
});

afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

/** Text and --json must tell the same: one sentence, one hint, one exit code. */
async function expectRefusal(
  args: string[],
  exit: number,
  message: string | RegExp,
  hint: RegExp,
): Promise<void> {
  const text = await site.run(...args);
  expect(text.stdout).toBe("");
  expect(text.code).toBe(exit);
  const said = /Error: ([\s\S]*?)\nTry: ([\s\S]*?)\n$/.exec(text.stderr);
  expect(said?.[1]).toEqual(typeof message === "string" ? message : expect.stringMatching(message));
  expect(said?.[2]).toMatch(hint);
  const json = await site.run(...args, "--json");
  expect(json.code).toBe(exit);
  expect(JSON.parse(json.stdout).error).toMatchObject({
    message: said?.[1],
    hint: said?.[2],
    exitCode: exit,
  });
}

async function withConfig(text: string, work: () => Promise<void>): Promise<void> {
  await site.configure(text);
  try {
    await work();
  } finally {
    await site.configure(config);
  }
}

const BACKUP = ["backup", "full", "--logical"];
const withUrl = (url: string): string => config.replace(/url: ".*"/, `url: "${url}"`);

describe("the database", () => {
  test("that cannot be reached", () =>
    withConfig(withUrl("postgresql://guarded@127.0.0.1:1/shop"), () =>
      expectRefusal(BACKUP, 1, /^cannot reach PostgreSQL at 127\.0\.0\.1:1: /, /check that the server runs/),
    ));

  test("that refuses the password", () =>
    withConfig(withUrl(`postgresql://guarded:wrong@127.0.0.1:${port}/shop`), () =>
      expectRefusal(
        BACKUP,
        1,
        `PostgreSQL at 127.0.0.1:${port} refused user "guarded": password authentication failed for user "guarded"`,
        /check the user and password in database\.url/,
      ),
    ));

  test("that does not exist", () =>
    withConfig(withUrl(server.url("nowhere")), () =>
      expectRefusal(
        BACKUP,
        10,
        `there is no database "nowhere" on PostgreSQL at socket ${server.socketDirectory}, port ${port}`,
        /check the database name/,
      ),
    ));

  test("whose rows the role may not read", () =>
    withConfig(withUrl(`postgresql://guarded:Sesame-4711@127.0.0.1:${port}/shop`), () =>
      expectRefusal(BACKUP, 1, /permission denied for table t/, /grant the missing right/),
    ));

  test("whose rows row-level security hides", async () => {
    await query(server.url("shop"), "alter table t enable row level security; grant select on t to guarded");
    await withConfig(withUrl(`postgresql://guarded:Sesame-4711@127.0.0.1:${port}/shop`), () =>
      expectRefusal(
        BACKUP,
        1,
        'row-level security hides rows of public.t from user "guarded"',
        /ALTER ROLE "guarded" BYPASSRLS/,
      ),
    );
    await query(server.url("shop"), "alter table t disable row level security");
  });
});

describe("pg_dump", () => {
  const folderWith = (name: string, script: string): string => {
    const folder = join(site.folder, name);
    mkdirSync(folder, { recursive: true });
    if (script !== "") writeFileSync(join(folder, "pg_dump"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return folder;
  };
  const withBinaries = (folder: string): string =>
    config.replace("database: {", `database: {binDirectory: ${folder}, `);

  test("that is missing", () => {
    const folder = folderWith("empty", "");
    return withConfig(withBinaries(folder), () =>
      expectRefusal(BACKUP, 16, `pg_dump was not found in ${folder}`, /install postgresql-client-/),
    );
  });

  test("that is older than the server", () =>
    withConfig(withBinaries(folderWith("old", 'echo "pg_dump (PostgreSQL) 9.6.24"')), () =>
      expectRefusal(
        BACKUP,
        16,
        /^pg_dump 9 is older than the server, PostgreSQL \d+$/,
        /install postgresql-client-/,
      ),
    ));

  const real = (): string => server.binDirectory;
  const wrapped = (name: string, script: string): string => {
    const folder = folderWith(
      name,
      `case "$1" in --version) exec ${real()}/pg_dump --version;; esac\n${script}`,
    );
    for (const tool of ["pg_dumpall", "pg_restore", "psql"])
      writeFileSync(join(folder, tool), `#!/bin/sh\nexec ${real()}/${tool} "$@"\n`, { mode: 0o755 });
    return folder;
  };

  test.each([
    [
      "dies",
      "echo 'pg_dump: error: the disk is on fire' >&2; exit 3",
      "pg_dump ended with code 3: pg_dump: error: the disk is on fire",
    ],
    ["is killed", "kill -9 $$", "pg_dump was killed by SIGKILL: it printed nothing"],
    [
      "prints an error and exits 0",
      `${"$"}REAL/pg_dump "$@"; echo 'pg_dump: error: half of it' >&2; exit 0`,
      "pg_dump ended with code 0 but reported: pg_dump: error: half of it",
    ],
    ["writes nothing", "exit 0", /wrote nothing|input file is too short/],
  ])("that %s is no success", async (name, script, message) => {
    const before = await site.json(["list"]);
    const folder = wrapped(name.replaceAll(" ", "-"), script.replace("$REAL", real()));
    await withConfig(withBinaries(folder), async () => {
      const ran = await site.run(...BACKUP);
      expect(ran.code).toBe(1);
      const said = /Error: (.*)\n/.exec(ran.stderr)?.[1];
      expect(said).toEqual(typeof message === "string" ? message : expect.stringMatching(message));
    });
    const [failed, ...rest] = await site.json(["list"]);
    expect(failed).toMatchObject({ status: "failed", copies: [] });
    expect(rest).toEqual(before);
    expect((await site.json(["alerts"]))[0]).toMatchObject({ type: "BACKUP_FAILURE", severity: "critical" });
  });
});

describe("a backup that is asked for", () => {
  test("and unknown", () =>
    expectRefusal(
      ["restore", "full-1999", "--reason", "x"],
      10,
      'there is no backup "full-1999"',
      /jbackup list/,
    ));
  test("and unknown to show", () =>
    expectRefusal(["show", "nope"], 10, 'there is no backup "nope"', /jbackup list/));
  test("by an ambiguous beginning", () =>
    expectRefusal(["show", "full-2"], 10, /^"full-2" means \d+ backups: full-/, /give more characters/));
  test("and failed", async () => {
    const failed = (await site.json(["list", "--status", "failed"]))[0];
    await expectRefusal(
      ["restore", failed.id, "--reason", "x"],
      10,
      `backup ${failed.label} is failed: there is nothing to restore in it`,
      /jbackup list --status completed/,
    );
  });
});

describe("keys", () => {
  test("that do not fit are refused before the target is touched", async () => {
    const made = await site.json(["keys", "new", "--out", join(site.folder, "other")]);
    const signer = readFileSync(join(site.home, "keys/signer"), "utf8").trim();
    const lines = (identity: string): string =>
      `${config}keys: {recipients: [${made.recipient}], signing: {file: ${join(site.folder, "other/signing")}}, signers: [${signer}], identity: {file: ${identity}}}\n`;
    await withConfig(lines(join(site.folder, "other/identity")), () =>
      expectRefusal(["restore", "--reason", "x", "--confirm", "shop"], 12, /./, /./),
    );
    await withConfig(lines(join(site.folder, "missing")), () =>
      expectRefusal(
        ["restore", "--reason", "x", "--confirm", "shop"],
        12,
        /^keys\.identity: there is no file .*missing$/,
        /recovery kit/,
      ),
    );
  });

  test("of a stranger: a backup that is not signed by a trusted key is not believed", async () => {
    const made = await site.json(["keys", "new", "--out", join(site.folder, "stranger")]);
    await withConfig(
      `${config}keys: {recipients: [${made.recipient}], signing: {file: ${join(site.folder, "stranger/signing")}}, identity: {file: ${join(site.home, "keys/identity")}}}\n`,
      () => expectRefusal(["restore", "--reason", "x", "--confirm", "shop"], 4, /./, /./),
    );
  });
});

describe("runbooks", () => {
  test("for a site with more than this one has are passed over, and all else is right", async () => {
    const checked: { name: string; problems: unknown[]; passedOver: string | null }[] = await site.json([
      "dr",
      "check",
    ]);
    expect(checked.flatMap(({ problems }) => problems)).toEqual([]);
    expect(
      checked.flatMap(({ name, passedOver }) => (passedOver === null ? [] : [[name, passedOver]])),
    ).toEqual([
      ["storage-lost", "the configuration has one storage only"],
      ["tenant-lost", "the configuration names no tenants"],
    ]);
    const text = await site.run("dr", "check");
    expect(text.code).toBe(0);
    expect(text.stdout).toContain(
      "ok    server-lost\nnone  storage-lost is not for this site and was passed over: the configuration has one storage only\n",
    );
    await expectRefusal(
      ["dr", "run", "storage-lost"],
      2,
      "the runbook storage-lost cannot be run here: the configuration has one storage only",
      /^add another storage to jbackup\.yaml, then run jbackup dr check$/,
    );
  });
  test("that nobody wrote are not there", async () => {
    const hint =
      /^there are catalog-lost, database-corrupted, .*: jbackup dr list tells when each is the right one$/;
    for (const more of [[], ["--drill"], ["--resume"], ["--abort"]])
      await expectRefusal(["dr", "run", "nosuch", ...more], 10, 'there is no runbook "nosuch"', hint);
  });
});

describe("the command line and the configuration", () => {
  test("an unwritable storage", () =>
    withConfig(config.replace(/path: .*\}/, `path: ${site.configFile}/below}`), () =>
      expectRefusal(
        BACKUP,
        1,
        /^only 0 of the 1 copies that minCopies asks for can be stored \(local: /,
        /jbackup storages check/,
      ),
    ));
  test("invalid YAML", () =>
    withConfig("site: [", () =>
      expectRefusal(["list"], 2, /^jbackup\.yaml has .*line 1: not valid YAML/s, /jbackup config validate/),
    ));
  test("an unknown storage kind", () =>
    withConfig(config.replace("kind: local", "kind: ftp"), () =>
      expectRefusal(["list"], 2, /unknown storage kind "ftp"/, /jbackup config validate/),
    ));
  test("a restore without a reason", () => expectRefusal(["restore"], 2, /--reason/, /--reason|--dry-run/));
  test("a restore that overwrites without confirmation", () =>
    expectRefusal(
      ["restore", "--reason", "x"],
      13,
      'this restore overwrites "shop" and needs its name as confirmation',
      /^give --confirm shop$/,
    ));
  test("a mistyped command", () => expectRefusal(["bakcup"], 2, /bakcup.*/, /./));
  test("no configuration at all", async () => {
    const ran = await site.start(["list"], { JBACKUP_CONFIG: join(site.folder, "not-there.yaml") });
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(
      `Error: there is no configuration file ${join(site.folder, "not-there.yaml")}\n`,
    );
  });
});
