import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { contentOf, query } from "../support/awkward.js";
import { type B2Server, startB2Server } from "../support/b2Server.js";
import { filesBelow } from "../support/files.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { portOfOwn } from "../support/servers.js";
import { makeSite, type Ran, type TestSite } from "../support/site.js";
import { type Swift, startSwift } from "../support/swift.js";

const PASSWORD = "p@ss/w%rd:#Zq9xK";
const CATALOG_PASSWORD = "catalog'Zq9xK&more";
const PASSPHRASE = "a phrase, Zq9xK-long enough";

let server: TestPostgres;
let swift: Swift;
let b2: B2Server;
let site: TestSite;
let port: string;
let good: string;
let secrets: string[];

beforeAll(async () => {
  port = portOfOwn();
  [server, swift, b2] = await Promise.all([
    startPostgres({
      settings: { listen_addresses: "'127.0.0.1'", port },
      hba: ["host all guarded,cataloguer 127.0.0.1/32 scram-sha-256"],
    }),
    startSwift(),
    startB2Server(),
  ]);
  await swift.createBucket("forms");
  b2.createBucket("forms");
  await query(
    server.url(),
    `create role guarded superuser login password '${PASSWORD}'`,
    `create role cataloguer login password '${CATALOG_PASSWORD.replaceAll("'", "''")}'`,
    "create database shop",
    "create database records owner cataloguer",
  );
  await query(server.url("shop"), "create table t as select g as id from generate_series(1, 500) g");
  site = await makeSite({ url: "placeholder" });
  const made = await site.run("keys", "new", "--out", join(site.folder, "keys"));
  if (made.code !== 0) throw new Error(made.stderr);
  const key = (name: string): string => readFileSync(join(site.folder, "keys", name), "utf8").trim();
  const held = join(site.folder, "held");
  mkdirSync(held);
  const file = (name: string, text: string): string => {
    writeFileSync(join(held, name), text, { mode: 0o600 });
    return `{file: held/${name}}`;
  };
  const url = `postgresql://guarded:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}/shop`;
  const catalog = `postgresql://cataloguer:${encodeURIComponent(CATALOG_PASSWORD)}@127.0.0.1:${port}/records`;
  good = `
site: forms
database: {url: "${url}"}
catalog: {url: ${file("catalog", catalog)}}
keys:
  recipients: [${key("recipient")}, {passphrase: {command: [cat, ${join(held, "phrase")}]}}]
  signing: "${key("signing")}"
  identity: ${file("identity", key("identity"))}
storages:
  - {name: local, kind: local, path: ${join(site.folder, "local")}}
  - {name: r2, kind: s3, endpoint: "${swift.endpoint}", bucket: forms, region: ${swift.region}, accessKeyId: "${swift.accessKeyId}", secretAccessKey: "${swift.secretAccessKey}"}
  - {name: b2, kind: b2, endpoint: "${b2.endpoint}", bucket: forms, keyId: "${b2.keyId}", applicationKey: ${file("b2", `${b2.applicationKey}\n`)}}
`;
  file("phrase", PASSPHRASE);
  await site.configure(good);
  secrets = [
    PASSWORD,
    CATALOG_PASSWORD,
    PASSPHRASE,
    key("identity"),
    key("signing"),
    b2.applicationKey,
    swift.secretAccessKey,
  ];
  secrets.push(...secrets.map(encodeURIComponent));
});

afterAll(async () => {
  await site?.remove();
  await Promise.all([server?.stop(), swift?.stop(), b2?.stop()]);
});

function expectClean(where: string, text: string, more: string[] = []): void {
  for (const secret of [...secrets, ...more]) {
    const at = text.indexOf(secret);
    expect(at < 0 ? "" : text.slice(Math.max(0, at - 80), at), `${where} holds a secret, after this`).toBe(
      "",
    );
  }
}

const expectAllClean = (ran: Ran, what: string[], more: string[] = []): void =>
  expectClean(what.join(" "), ran.stdout + ran.stderr, more);

test("secrets given as values, in files and by commands work, and stay where they were", async () => {
  for (const args of [
    ["backup", "full", "--logical", "--verbose"],
    ["backup", "full", "--logical", "--verbose", "--json"],
    ["restore", "--into-db", "copy", "--reason", "forms", "--verbose"],
    ["list"],
    ["show", "latest", "--json"],
    ["config", "show", "--origin"],
    ["config", "show", "--json"],
    ["config", "validate", "--verbose"],
    ["keys", "list", "--json"],
    ["keys", "test", "--verbose"],
    ["storages", "check", "local", "b2", "--verbose"],
    ["catalog", "migrate", "--verbose"],
    ["catalog", "rebuild", "--from", "r2", "--verbose"],
  ]) {
    const ran = await site.run(...args);
    expect(ran.code, `${args.join(" ")}\n${ran.stderr}`).toBe(0);
    expectAllClean(ran, args);
  }
  // of several writers at once Swift lets more than one win: found, and true
  const swiftChecked = ["storages", "check", "r2", "--verbose"];
  expectAllClean(await site.run(...swiftChecked), swiftChecked);
  const { database: _, ...rows } = await contentOf(server.url("shop"));
  const { database: _copy, ...copied } = await contentOf(server.url("copy"));
  expect(copied).toEqual(rows);

  const kept = [join(site.folder, "keys"), join(site.folder, "held"), site.configFile];
  const written = filesBelow(site.folder).filter((path) => !kept.some((own) => path.startsWith(own)));
  expect(written.length).toBeGreaterThan(5);
  for (const path of written) expectClean(path, readFileSync(path, "latin1"));
  const records = execFileSync(
    join(server.binDirectory, "pg_dump"),
    ["--inserts", "-h", server.socketDirectory, "-p", port, "-U", "postgres", "records"],
    { encoding: "utf8" },
  );
  expect(records).toContain("full-2");
  expectClean("the catalog", records);
});

const WRONG = "wrong-Zq9xK-secret";

test.each<[string, (text: string) => string, string[], RegExp]>([
  [
    "a wrong database password",
    (text) => text.replace(/guarded:[^@]*@/, `guarded:${WRONG}@`),
    ["backup", "full", "--logical"],
    /refused user "guarded"/,
  ],
  [
    "a database address that cannot be read",
    (text) => text.replace(/127\.0\.0\.1:\d+\/shop/, "[127.0.0.1/shop"),
    ["backup", "full", "--logical"],
    /is not a connection address/,
  ],
  [
    "a wrong database port",
    (text) => text.replace(/127\.0\.0\.1:\d+\/shop/, "127.0.0.1:1/shop"),
    ["restore", "--reason", "x"],
    /cannot reach PostgreSQL/,
  ],
  [
    "a wrong catalog password",
    (text) =>
      text.replace(
        /catalog: .*/,
        `catalog: {url: "postgresql://cataloguer:${WRONG}@127.0.0.1:${port}/records"}`,
      ),
    ["list"],
    /catalog/,
  ],
  [
    "a catalog of an unknown kind",
    (text) => text.replace(/catalog: .*/, `catalog: {url: "mysql://cataloguer:${WRONG}@127.0.0.1/records"}`),
    ["list"],
    /no catalog knows/,
  ],
  [
    "a wrong S3 secret",
    (text) => text.replace(/secretAccessKey: "[^"]*"/, `secretAccessKey: "${WRONG}"`),
    ["storages", "check", "r2"],
    /r2/,
  ],
  [
    "a wrong B2 key",
    (text) => text.replace(/applicationKey: \{[^}]*\}/, `applicationKey: "${WRONG}"`),
    ["storages", "check", "b2"],
    /b2/,
  ],
  [
    "a signing key that is none",
    (text) => text.replace(/signing: .*/, `signing: "${WRONG}"`),
    ["backup", "full", "--logical"],
    /signing/,
  ],
  [
    "an identity that is none",
    (text) => text.replace(/identity: .*/, `identity: {file: held/phrase}`),
    ["restore", "--into-db", "z", "--reason", "x"],
    /identity|key/,
  ],
  [
    "a secret of the wrong shape",
    (text) => text.replace(/secretAccessKey: "[^"]*"/, `secretAccessKey: [${WRONG}]`),
    ["list"],
    /secretAccessKey/,
  ],
  [
    "a mistyped key of a secret",
    (text) => text.replace("secretAccessKey:", "secretAccesKey:"),
    ["list"],
    /did you mean "secretAccessKey"/,
  ],
  [
    "an address with a password in it",
    (text) => text.replace("http://127", `http://user:${WRONG}@127`),
    ["list"],
    /must not hold a user or a password/,
  ],
  [
    "YAML that breaks beside a secret",
    (text) => text.replace("catalog:", `catalog: ${WRONG}: [`),
    ["list"],
    /not valid YAML/,
  ],
])("%s is told without being shown", async (_, change, args, message) => {
  const text = change(good);
  expect(text).not.toBe(good);
  await site.configure(text);
  for (const more of [["--verbose"], ["--verbose", "--json"]]) {
    const ran = await site.run(...args, ...more);
    expect(ran.code).toBeGreaterThan(0);
    expect(ran.stdout + ran.stderr).toMatch(message);
    expectAllClean(ran, [...args, ...more], [WRONG]);
  }
});
