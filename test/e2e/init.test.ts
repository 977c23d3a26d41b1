import { execFile, execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { killAt } from "../support/kill.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { expectRefused } from "../support/refusal.js";
import { makeSite, type TestSite } from "../support/site.js";
import { type MailServer, startMailServer } from "../support/smtp.js";
import { INIT_STEPS } from "../support/steps.js";
import { type Swift, startSwift } from "../support/swift.js";
import { SHOP_ROLE_SQL, seedSql, TENANT_SHOP_SQL } from "../support/tenantShop.js";
import { openTerminal, type Terminal } from "../support/terminal.js";

const RECOVER = fileURLToPath(new URL("../../bin/recover.mjs", import.meta.url));

let server: TestPostgres;
let b2: B2Server;
let swift: Swift;
let site: TestSite;
let terminal: Terminal | undefined;
let mail: MailServer;
let url: string;

beforeAll(async () => {
  [server, b2, swift, mail] = await Promise.all([
    startPostgres(),
    startB2Server(),
    startSwift(),
    startMailServer(),
  ]);
  b2.createBucket("shop");
  await swift.createBucket("shop");
  url = server.url("shop");
  await query(server.url(), "create database shop", "create database wiki", "create role weak login");
  await query(
    url,
    TENANT_SHOP_SQL + SHOP_ROLE_SQL + seedSql(1, 3, 10),
    "create schema ops",
    "create table ops.metrics (id int primary key, value int)",
  );
  site = await makeSite({
    url,
    environment: {
      PGHOST: server.directory,
      B2_ID: b2.keyId,
      B2_KEY: b2.applicationKey,
      R2_ID: "nobody",
      R2_SECRET: "knows",
    },
  });
});
afterAll(async () => {
  await site?.remove();
  await Promise.all([server?.stop(), b2?.stop(), swift?.stop(), mail?.stop()]);
});
afterEach(() => {
  terminal?.close();
  terminal = undefined;
});

const inFolder = (name: string): string => join(site.folder, name);

/** Commands with a home of their own: one home is one site's. */
function inHome(name: string): TestSite {
  const home = inFolder(name);
  const start: TestSite["start"] = (args, more) => site.start(args, { JBACKUP_HOME: home, ...more });
  return {
    ...site,
    home,
    environment: { ...site.environment, JBACKUP_HOME: home },
    start,
    run: (...args) => start(args),
    async json(args, codes = [0]) {
      const ran = await start([...args, "--json"]);
      if (!codes.includes(ran.code ?? -1)) throw new Error(`exit ${ran.code}: ${ran.stdout}\n${ran.stderr}`);
      return JSON.parse(ran.stdout);
    },
  };
}
const everything = (): string[] => (readdirSync(site.folder, { recursive: true }) as string[]).sort();

test("--yes without a terminal ends with a first backup that comes back, and with a kit that opens it alone", async () => {
  const file = inFolder("yes/jbackup.yaml");
  const made = await site.json([
    ...["init", "--yes", "--out", file, "--database-url", url, "--exclude", "ops.metrics"],
    ...["--storage", `disk=${inFolder("disk")}`, `b2=b2:${b2.endpoint}/shop/prod`],
  ]);
  expect(made).toMatchObject({
    site: "shop",
    file,
    kit: inFolder("yes/jbackup-recovery-kit.txt"),
    storages: [
      { name: "disk", kind: "local" },
      { name: "b2", kind: "b2" },
    ],
    tenants: {
      table: "app.tenants",
      column: "tenant_id",
      nameColumn: "company_name",
      activeWhere: "status = 'ACTIVE'",
      setting: "app.tenant_id",
      exclude: ["ops.metrics"],
    },
    backup: { kind: "full", method: "physical", status: "completed" },
  });
  expect(made.backup.copies.map(({ storage, status }: Record<string, string>) => [storage, status])).toEqual([
    ["disk", "stored"],
    ["b2", "stored"],
  ]);

  // what the server writes before the first pass is kept for it
  const [slot] = await query(
    url,
    `select (restart_lsn <= '${made.backup.metadata.startLsn}'::pg_lsn)::text as before from pg_replication_slots where slot_name = 'jbackup_shop'`,
  );
  expect(slot).toEqual({ before: "true" });

  const secrets = readdirSync(made.keys).map((name) => join(made.keys, name));
  for (const path of [file, made.kit, ...secrets])
    expect([path, statSync(path).mode & 0o777]).toEqual([path, 0o600]);
  const text = readFileSync(file, "utf8");
  for (const path of secrets.filter((one) => /identity|signing|\.secret/.test(one)))
    expect(text).not.toContain(readFileSync(path, "utf8").trim());
  expect(text).not.toContain(b2.applicationKey);

  const given = ["--config", file];
  await site.json(["config", "validate", ...given]);
  expect(await site.json(["tenants", "coverage", ...given])).toMatchObject({ decided: true });
  await site.json(["restore", "--into-db", "shop_back", "--reason", "test", ...given]);
  const { database: _, ...rows } = await contentOf(url);
  const { database: __, ...back } = await contentOf(server.url("shop_back"));
  expect(back).toEqual(rows);
  await query(server.url(), "drop database shop_back");

  // the recovery key stands nowhere but in the kit
  const kit = readFileSync(made.kit, "utf8");
  const [, recovery = ""] = [
    ...kit.matchAll(/^ {3}(jbk1key\S+|jbk1sec\S+|jbk1\S+)\n {3}its public half: /gm),
  ].map(([, key]) => key);
  const daily = readFileSync(join(made.keys, "identity"), "utf8").trim();
  expect(recovery).not.toBe(daily);
  for (const path of secrets) expect(readFileSync(path, "utf8")).not.toContain(recovery);
  writeFileSync(inFolder("recovery-key"), `${recovery}\n`);
  const [signer = ""] = /jbk1ver\S+/.exec(kit) ?? [];
  const [copy] = made.backup.copies.filter(({ storage }: { storage: string }) => storage === "disk");
  execFileSync(process.execPath, [
    ...[RECOVER, "open", join(inFolder("disk"), copy.path), "--identity", inFolder("recovery-key")],
    ...["--signer", signer, "--out", inFolder("opened")],
  ]);
  expect(readFileSync(join(inFolder("opened"), "PG_VERSION"), "utf8").trim()).toMatch(/^\d+$/);

  // a second site, whose keys would open nothing of this one
  const before = everything();
  const again = ["init", "--yes", "--out", inFolder("again/jbackup.yaml"), "--database-url", url];
  await expectRefused(inHome("home-again"), [...again, "--storage", `disk=${inFolder("disk")}`], {
    exit: 14,
    message: `${inFolder("disk")} holds backups of site shop already, made under other keys`,
    hint: /bring back its jbackup.yaml and its keys .*; to begin anew, give disk another folder$/,
  });
  rmSync(inFolder("home-again"), { recursive: true, force: true });
  await expectRefused(site, [...again, "--site", "other", "--storage", `disk=${inFolder("other-disk")}`], {
    exit: 14,
    message: `${site.home} is the home of site shop already`,
    hint: /set JBACKUP_HOME to another folder$/,
  });
  await expectRefused(site, ["init", "--yes", "--out", file, "--database-url", url], {
    exit: 14,
    message: `${file} exists already`,
    hint: /jbackup config validate/,
  });
  expect(everything()).toEqual(before);
  expect(readFileSync(file, "utf8")).toBe(text);
});

test.each(INIT_STEPS)("killed at %s it is run again, and what it left opens nothing", async (step) => {
  const killed = inHome(`home-${step}`);
  const [out, kit] = [inFolder(`${step}.yaml`), inFolder(`${step}-kit.txt`)];
  const init = ["init", "--yes", "--database-url", url, "--out", out, "--kit", kit, "--skip-backup"];
  await killAt(killed, step, init);
  expect(existsSync(out)).toBe(false);
  const unused = existsSync(kit) ? readFileSync(kit, "utf8") : null;
  const made = await killed.json(init);
  expect(made).toMatchObject({ file: out, kit, keys: join(killed.home, "keys-2") });
  for (const recipient of made.recipients) expect(readFileSync(kit, "utf8")).toContain(recipient);
  if (unused !== null) expect(readFileSync(`${kit}.unused`, "utf8")).toBe(unused);
  expect(readdirSync(made.keys)).not.toContain("unfinished");
  await killed.json(["config", "validate", "--config", out]);
  await expectRefused(killed, init.with(5, inFolder("second.yaml")).with(7, inFolder("second-kit.txt")), {
    exit: 14,
    message: `${killed.home} is the home of site shop already`,
    hint: /./,
  });
});

test("keys that lie in a home, of whatever site, are not joined by others", async () => {
  const used = inHome("home-with-keys");
  await used.json(["keys", "new", "--out", join(used.home, "keys")]);
  const before = everything();
  const out = ["--out", inFolder("beside.yaml"), "--kit", inFolder("beside-kit.txt")];
  await expectRefused(used, ["init", "--yes", "--database-url", url, ...out], {
    exit: 14,
    message: `${join(used.home, "keys")} holds the keys of a site already`,
    hint: /move them away only if that is nothing/,
  });
  expect(everything()).toEqual(before);
});

test("a role that may not is told what it lacks, and may when that was run", async () => {
  const site = inHome("weak-home");
  const out = ["--out", inFolder("weak.yaml"), "--kit", inFolder("weak-kit.txt"), "--site", "weak"];
  const args = ["init", "--yes", "--database-url", url.replace("postgres@", "weak@"), ...out];
  const before = everything();
  const refused = await site.json(args, [1]);
  expect(refused.error.message).toBe("role weak may not back up the cluster");
  expect(everything()).toEqual(before);
  const statements = refused.error.hint.replace(/^run in database shop as a superuser: /, "");
  await query(url, statements);
  const ran = await site.run(...args, "--storage", `disk=${inFolder("weak-disk")}`, "--json");
  expect(JSON.parse(ran.stdout).backup).toMatchObject({ status: "completed", method: "physical" });
  const [, rights = ""] = /cannot back them up by themselves. As a superuser: (.*);"/.exec(ran.stderr) ?? [];
  await query(url, rights.replaceAll('\\"', '"'));
  const given = ["--config", inFolder("weak.yaml")];
  const refusal = await site.json(["backup", "tenant", "--all", ...given], [2]);
  expect(refusal.error.message).toContain("ops.metrics is unknown"); // nobody has decided: named, not guessed
  const text = readFileSync(inFolder("weak.yaml"), "utf8");
  writeFileSync(inFolder("weak.yaml"), text.replace("  setting:", "  exclude: [ops.metrics]\n  setting:"));
  expect(await site.json(["backup", "tenant", "--all", ...given])).toMatchObject({ status: "completed" });
});

test("what cannot work is refused before anything is written", async () => {
  const site = inHome("new-home");
  const before = everything();
  const out = ["--out", inFolder("new.yaml"), "--kit", inFolder("new-kit.txt")];
  const init = (...args: string[]): string[] => ["init", "--yes", ...out, ...args];
  await expectRefused(site, ["init", ...out], {
    exit: 2,
    message: "there is no terminal to ask at",
    hint: /^give --yes to take the defaults, and --database-url/,
  });
  await expectRefused(site, init(), {
    exit: 2,
    message: /^several databases are there: shop, wiki|wiki, shop$/,
    hint: /--database-url postgresql:/,
  });
  await expectRefused(site, init("--database-url", url, "--storage", `r2=s3:${swift.endpoint}/shop`), {
    exit: 1,
    message: /storage r2/,
    hint: /./,
  });
  await expectRefused(
    site,
    init("--database-url", url, "--site", "other", "--storage", `disk=${inFolder("disk")}`),
    { exit: 10, message: `${inFolder("disk")} belongs to site shop`, hint: /each site has its own/ },
  );
  await expectRefused(site, init("--database-url", url, "--tenants", "app.tenant"), {
    exit: 2,
    message: 'database "shop" has no table app.tenant',
    hint: /./,
  });
  await expectRefused(site, init("--database-url", "postgresql://nobody@127.0.0.1:1/shop"), {
    exit: 1,
    message: /^cannot reach PostgreSQL at 127.0.0.1:1/,
    hint: /./,
  });
  for (const text of ["u:geheim42@127.0.0.1/shop", ""])
    await expectRefused(site, init("--database-url", text), {
      exit: 2,
      message:
        /^--database-url is no address of a database: it (does not begin with postgresql:\/\/|is empty)$/,
      hint: /--database-url .*such as postgresql:\/\/\/shop\?host=\/var\/run\/postgresql$/,
    });
  await expectRefused(site, init("--database-url", "postgresql://u:geheim42@127.0.0.1:port/shop"), {
    exit: 2,
    message: /^database\.url is not a connection address: (?!.*geheim42)/,
    hint: /^write it as postgresql:\/\/USER@HOST/,
  });
  const told = ["--tenants", "none", "--alerts", "email:ops@example.com"];
  const dead = await site.start(init("--database-url", url, ...told), {
    SMTP_URL: "smtp://u:geheim42@127.0.0.1:1",
  });
  expect(dead.code).toBe(1);
  expect(dead.stderr).toMatch(
    /Error: channel mail could not send a mail: [\s\S]*\nTry: correct the mail server's address/,
  );
  expect(dead.stderr).not.toContain("geheim42");
  for (const words of [
    ["init", "postgresql://u:geheim42@127.0.0.1/shop"],
    init("--database-url", url, "--storage", "r2=s3:https://id:geheim42@127.0.0.1/shop"),
  ]) {
    const ran = await site.run(...words);
    expect([ran.code, `${ran.stdout}${ran.stderr}`.includes("geheim42")]).toEqual([2, false]);
  }
  expect(everything()).toEqual(before);
});

/** Each prompt of the wizard: the flags that lead to it at once, and what is pressed to come to the next. */
const prompts = (disk = "walk-disk"): [prompt: RegExp, flags: string[], keys: string[]][] => {
  const database = ["--database-url", `'${url}'`];
  const named = [...database, "--site", "walk"];
  const stored = [...named, "--storage", `local=${inFolder(disk)}`];
  const classed = [...stored, "--tenants", "none"];
  const timed = [...classed, "--keep", "weeks", "--hour", "1"];
  return [
    [/\? Which PostgreSQL\?/, [], ["Enter"]],
    [/\? Which database\?/, [], ["shop", "Enter"]],
    [/\? Name of this site/, database, ["C-u", "walk", "Enter"]],
    [/\? Folder for the backups/, named, ["C-u", inFolder(disk), "Enter"]],
    [/\? Another storage\?/, named, ["Down", "Enter"]],
    [/\? Address of the service/, named, ["C-u", swift.endpoint, "Enter"]],
    [/\? Region/, named, ["C-u", swift.region, "Enter"]],
    [/\? Bucket/, named, ["shop", "Enter"]],
    [/\? Prefix/, named, ["C-u", "walk", "Enter"]],
    [/\? Access key id/, named, [swift.accessKeyId, "Enter"]],
    [/\? Secret access key/, named, [swift.secretAccessKey, "Enter"]],
    [/Storage s3: [^\n]* passed \d+ checks[\s\S]*\? Another storage\?/, named, ["Up", "Enter"]],
    [/\? Is that so\?/, stored, ["y", "Enter"]],
    [/\? What is ops\.metrics to tenants\?/, stored, ["Down", "Enter"]],
    [/\? How long are backups kept\?/, classed, ["Enter"]],
    [/\? At which hour/, [...classed, "--keep", "weeks"], ["C-u", "23", "Enter"]],
    [/\? Who is told when/, timed, ["Enter"]],
    [/\? To whom/, timed, ["ops@example.com", "Enter"]],
    [/\? Mail server/, timed, ["C-u", mail.url, "Enter"]],
    [/\? User there/, timed, ["Enter"]],
    [/\? Make the first backup/, [...timed, "--alerts", "none"], ["y", "Enter"]],
    [/\? Go\?/, [...timed, "--alerts", "none", "--skip-backup"], ["y", "Enter"]],
  ];
};

/** Swift may let two of several concurrent writers win when the machine is busy: then it is tried once more. */
async function comeTo(screen: Terminal, prompt: RegExp): Promise<void> {
  const retry = /\? What now\?/;
  for (;;) {
    const seen = await screen.see(new RegExp(`${prompt.source}|${retry.source}`));
    if (!retry.test(seen)) return;
    screen.press("Enter");
    await screen.see(/What now[^\n]*\n[^\n]*Trying s3 for real/);
  }
}
const OUT = (): string[] => ["--out", inFolder("walk.yaml"), "--kit", inFolder("walk-kit.txt")];

test("Ctrl-C at every prompt ends with 130 and leaves nothing behind", async () => {
  const before = everything();
  const left = prompts().map((_, at) => at);
  const leaveOneAfterTheOther = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) await leaveAt(next);
  };
  await Promise.all([1, 2, 3].map(leaveOneAfterTheOther));
  expect(everything()).toEqual(before);
});

async function leaveAt(at: number): Promise<void> {
  const all = prompts(`disk-${at}`); // each a folder of its own: they run side by side
  const [prompt, flags] = all[at] as (typeof all)[number];
  const screen = openTerminal(inHome("walk-home"), ["init", ...OUT(), ...flags], 120);
  try {
    for (const [earlier, flagsThere, keys] of all.slice(0, at)) {
      if (flagsThere.length !== flags.length) continue; // the flags have answered it
      await comeTo(screen, earlier);
      screen.press(...keys);
    }
    await comeTo(screen, prompt);
    screen.press("C-c");
    expect(await screen.see(/ended with \d+/)).toMatch(/nothing was changed[\s\S]*ended with 130/);
  } finally {
    screen.close();
  }
}

test("the wizard finds server, database and tenants, tries the storages, and shows the command that does the same", async () => {
  const site = inHome("walk-home");
  terminal = openTerminal(site, ["init", ...OUT()], 250);
  for (const [prompt, , keys] of prompts()) {
    await comeTo(terminal, prompt);
    terminal.press(...keys);
  }
  const screen = await terminal.see(/ended with \d+/);
  expect(screen).toMatch(
    /Site walk is set up\.[\s\S]*first backup {3}full-\S+: .* in local, s3\n[\s\S]*ended with 0/,
  );
  expect(screen).not.toContain(swift.secretAccessKey);
  const text = readFileSync(inFolder("walk.yaml"), "utf8");
  expect(text).not.toContain(swift.secretAccessKey);
  expect(text).toContain("exclude: [ops.metrics]");
  expect(text).toMatch(
    /\{name: mail, kind: email, smtp: \{url: \{file: \S+\/alerts-url\}\}, to: \["ops@example.com"\]\}/,
  );
  expect(mail.mails.at(-1)).toMatch(
    /To: ops@example.com[\s\S]*this is only a test[\s\S]*Nothing is left to do/,
  );
  const [backup] = await site.json(["list", "--config", inFolder("walk.yaml")]);
  expect(backup.copies.map(({ status }: { status: string }) => status)).toEqual(["stored", "stored"]);

  // the command that was shown makes the same file, but for the keys
  const [, command = ""] =
    /^\s*S3_ID=\.\.\. S3_SECRET=\.\.\. SMTP_URL=\.\.\. jbackup (init --yes .*?)\s*$/m.exec(screen) ?? [];
  // with a home and storages of its own, for these are in use by now
  const again = command
    .replaceAll(inFolder("walk.yaml"), inFolder("again.yaml"))
    .replaceAll(inFolder("walk-disk"), inFolder("again-disk"))
    .replaceAll("/shop/walk", "/shop/again");
  // the mail server answers in this very process
  await promisify(execFile)(
    "sh",
    [
      "-c",
      `'${process.execPath}' '${fileURLToPath(new URL("../../bin/jbackup.js", import.meta.url))}' ${again} --kit again-kit --skip-backup`,
    ],
    {
      cwd: site.folder,
      env: {
        ...inHome("again-home").environment,
        S3_ID: swift.accessKeyId,
        S3_SECRET: swift.secretAccessKey,
        SMTP_URL: mail.url,
      },
    },
  );
  const withoutKeys = (yaml: string): string =>
    yaml
      .replaceAll(/jbk1\S+/g, "KEY")
      .replaceAll(/keys(-\d+)?\//g, "keys/")
      .replaceAll(/again(?=\.yaml|-home|-disk|\b)/g, "walk");
  expect(withoutKeys(readFileSync(inFolder("again.yaml"), "utf8"))).toBe(withoutKeys(text));
  rmSync(inFolder("again.yaml"));
});
