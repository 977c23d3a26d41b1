import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { portOfOwn } from "../support/servers.js";
import { makeSite, type Ran, type TestSite } from "../support/site.js";
import { type Swift, startSwift } from "../support/swift.js";

const PASSWORD = "pa%ss/w:rd-Zq9xK";
const PASSPHRASE = "correct horse Zq9xK battery";

let server: TestPostgres;
let swift: Swift;
let b2: B2Server;
let site: TestSite;
let secrets: string[];

beforeAll(async () => {
  const port = portOfOwn();
  [server, swift, b2] = await Promise.all([
    startPostgres({
      settings: { listen_addresses: "'127.0.0.1'", port },
      hba: ["host all guarded 127.0.0.1/32 scram-sha-256"],
    }),
    startSwift(),
    startB2Server(),
  ]);
  await swift.createBucket("secret");
  b2.createBucket("secret");
  await query(
    server.url(),
    `create role guarded superuser login password '${PASSWORD}'`,
    "create database shop",
  );
  await query(
    server.url("shop"),
    "create table t as select g as id, md5(g::text) as v from generate_series(1, 150000) g",
  );
  site = await makeSite({
    url: "placeholder",
    environment: { S3_SECRET: swift.secretAccessKey, B2_KEY: b2.applicationKey, PASSPHRASE_HERE: PASSPHRASE },
  });
  const made = await site.run("keys", "new", "--out", join(site.folder, "keys"));
  if (made.code !== 0) throw new Error(made.stderr);
  const key = (name: string): string => readFileSync(join(site.folder, "keys", name), "utf8").trim();
  const url = `postgresql://guarded:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}/shop`;
  writeFileSync(join(site.folder, "url"), `${url}\n`, { mode: 0o600 });
  await site.configure(`
site: secretive
database: {url: {command: [cat, ${join(site.folder, "url")}]}}
keys:
  recipients: [${key("recipient")}, {passphrase: {env: PASSPHRASE_HERE}}]
  signing: {file: ${join(site.folder, "keys/signing")}}
  identity: [{file: ${join(site.folder, "keys/identity")}}, {passphrase: {env: PASSPHRASE_HERE}}]
storages:
  - {name: local, kind: local, path: ${join(site.folder, "local")}}
  - {name: r2, kind: s3, endpoint: "${swift.endpoint}", bucket: secret, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: {env: S3_SECRET}}
  - {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: secret, keyId: "${b2.keyId}", applicationKey: {env: B2_KEY}}
`);
  secrets = [
    PASSWORD,
    encodeURIComponent(PASSWORD),
    PASSPHRASE,
    key("identity"),
    key("signing"),
    b2.applicationKey,
    swift.secretAccessKey,
  ];
});

afterAll(async () => {
  await site?.remove();
  await Promise.all([server?.stop(), swift?.stop(), b2?.stop()]);
});

const expectClean = (where: string, text: string): void => {
  for (const secret of secrets) expect(text.includes(secret), `${where} holds a secret`).toBe(false);
};

interface Seen {
  command: string;
  argv: string;
  environment: string;
}

/** Looks at every process below the running command, again and again, until it ends. */
async function watch(running: Promise<Ran> & { pid: number }): Promise<{ ran: Ran; seen: Seen[] }> {
  const seen = new Map<string, Seen>();
  let isOver = false;
  const look = (): void => {
    const parents = new Map<number, number>();
    for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
      } catch {
        // gone meanwhile
      }
    }
    for (const pid of parents.keys()) {
      let at: number | undefined = pid;
      while (at !== undefined && at !== running.pid && at > 1) at = parents.get(at);
      if (at !== running.pid) continue;
      try {
        const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
        // a process that has not yet become its program still looks like its parent
        const command = argv.includes("bin/jbackup.js")
          ? "jbackup"
          : (argv.split(" ")[0] ?? "").replace(/.*\//, "");
        seen.set(`${pid} ${argv}`, { command, argv, environment });
      } catch {
        // gone meanwhile
      }
    }
    if (!isOver) setTimeout(look, 3);
  };
  look();
  const ran = await running;
  isOver = true;
  return { ran, seen: [...seen.values()] };
}

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

test("no secret shows up in output, files, argv, or the environment of a program that does not need it", async () => {
  const all: Ran[] = [];
  const processes: Seen[] = [];
  for (const args of [
    ["backup", "full", "--logical", "--verbose"],
    ["backup", "full", "--logical", "--json"],
    ["restore", "--into-db", "copy", "--reason", "look", "--verbose"],
  ]) {
    const { ran, seen } = await watch(site.start(args));
    expect(ran.code).toBe(0);
    all.push(ran);
    processes.push(...seen);
  }
  for (const args of [
    ["list", "--json"],
    ["show", "latest"],
    ["config", "show", "--origin"],
    ["config", "validate"],
    ["keys", "list"],
    ["keys", "test"],
    ["storages", "check", "--json"],
    ["restores"],
    ["alerts"],
    ["catalog", "rebuild"],
  ])
    all.push(await site.run(...args));
  // an address that fails is the likeliest place for a password to leak
  all.push(await site.start(["backup", "full", "--logical", "--verbose"], { B2_KEY: "" }));
  writeFileSync(
    join(site.folder, "url"),
    `postgresql://guarded:${encodeURIComponent(PASSWORD)}@127.0.0.1:1/shop\n`,
  );
  all.push(await site.run("backup", "full", "--logical", "--verbose"));
  all.push(await site.run("backup", "full", "--logical", "--verbose", "--json"));

  for (const ran of all) expectClean("the output", ran.stdout + ran.stderr);
  expect(processes.map(({ command }) => command)).toEqual(
    expect.arrayContaining(["jbackup", "pg_dump", "pg_dumpall", "pg_restore"]),
  );
  for (const { command, argv, environment } of processes) {
    expectClean(`argv of ${command}`, argv);
    if (command === "jbackup") continue; // it was given them
    // pg_dumpall asks pg_dump for its version through a shell, which inherits what it has
    const mayHold =
      ["pg_dump", "pg_dumpall", "pg_restore"].includes(command) ||
      (command === "sh" && argv.includes("pg_dump"));
    expectClean(`the environment of ${command}`, mayHold ? environment.replace(PASSWORD, "") : environment);
  }
  const own = [join(site.folder, "keys"), join(site.folder, "url")];
  for (const file of filesBelow(site.folder).filter((path) => !own.some((kept) => path.startsWith(kept))))
    expectClean(file, readFileSync(file, "latin1"));
});
