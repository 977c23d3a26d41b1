import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Config, describeConfig, loadConfig, readEnvironment } from "../../src/config/config.js";
import { secretPartsOf, secretsTypedIn } from "../../src/domain/address.js";
import type { JBackupError } from "../../src/domain/errors.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-config-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const environment = (variables: Record<string, string> = {}) => ({
  ...readEnvironment({
    PATH: process.env.PATH,
    HOME: folder,
    JBACKUP_HOME: join(folder, "home"),
    ...variables,
  }),
  workingDirectory: folder,
});

async function load(
  text: string,
  variables: Record<string, string> = {},
  secrets: string[] = [],
): Promise<Config> {
  const file = join(folder, "jbackup.yaml");
  await writeFile(file, text);
  return loadConfig({
    environment: environment(variables),
    file,
    onSecret: (secret) => secrets.push(secret),
  });
}

const refusal = async (text: string): Promise<JBackupError> =>
  load(text).then(
    () => {
      throw new Error("the configuration was accepted");
    },
    (error: JBackupError) => error,
  );

const DESIGN_EXAMPLE = `
site: shop-prod
database:
  url: postgresql:///shop?host=/var/run/postgresql
  dataDirectory: auto
  binDirectory: auto
keys:
  recipients: [jbk1pubexample]
  signing: {file: /etc/jbackup/signing}
  identity: {file: /etc/jbackup/identity}
storages:
  - {name: local, kind: local, path: /var/lib/jbackup}
  - {name: r2, kind: s3, endpoint: https://ACCOUNT.r2.cloudflarestorage.com, bucket: shop, prefix: prod, region: auto, accessKeyId: {env: R2_ID}, secretAccessKey: {env: R2_SECRET}}
  - {name: b2, kind: b2, bucket: shop, prefix: prod, keyId: {env: B2_ID}, applicationKey: {env: B2_KEY}}
minCopies: 2
catalog: {url: "sqlite:/var/lib/jbackup/catalog.db"}
compression: {codec: zstd, level: 3}
tenants:
  table: app.tenants
  idColumn: id
  nameColumn: company_name
  activeWhere: "status = 'ACTIVE'"
  column: tenant_id
  setting: app.tenant_id
  exclude: []
configFiles: [/etc/postgresql, /etc/jbackup]
retention:
  local: {within: 30d}
  r2: {within: 30d, daily: 30, weekly: 12, monthly: 12}
  b2: {within: 1y}
  pitrWindow: 30d
objectives: {rto: 1h, rpo: 5m}
schedule: {full: "0 2 * * *", tenant: "0 3 * * 0", wal: "*/5 * * * *", config: "0 4 * * *", verify: "0 5 * * *", cleanup: "0 6 * * *", testRestore: "0 7 1 * *"}
alerts:
  channels:
    - {name: ops, kind: email, smtp: {url: {env: SMTP_URL}}, to: [ops@example.com], atLeast: warning}
    - {name: hook, kind: webhook, url: {env: HOOK_URL}, secret: {env: HOOK_SECRET}, format: json}
    - {name: phone, kind: sms, provider: twilio, atLeast: critical}
hooks: {beforeBackup: [], afterBackup: [], onFailure: []}
`;

describe("a configuration file", () => {
  test("with the database alone is enough: storage, catalog and keys have their defaults", async () => {
    const config = await load("database: {url: postgresql:///shop}\n");
    expect(config.site).toBe("shop");
    expect(config.storages).toEqual([{ kind: "local", name: "local", path: join(folder, "home/storage") }]);
    expect(config.minCopies).toBe(1);
    expect((await config.catalogUrl()).reveal()).toBe(`sqlite:${join(folder, "home/catalog.db")}`);
    expect(config.keys.generatedIn).toBe(join(folder, "home/keys"));
    expect(config.compression).toEqual({ codec: "zstd", level: 3 });
  });

  test("may say everything that the documentation shows", async () => {
    const config = await load(DESIGN_EXAMPLE);
    expect(config.storages.map(({ kind }) => kind)).toEqual(["local", "s3", "b2"]);
    expect(config.minCopies).toBe(2);
    expect(config.retention.pitrWindowMs).toBe(30 * 86_400_000);
    expect(config.retention.perStorage.r2).toEqual({ within: "30d", daily: 30, weekly: 12, monthly: 12 });
    expect(config.objectives).toEqual({
      rtoMs: 3_600_000,
      rpoMs: 300_000,
      drillEveryMs: 35 * 86_400_000,
    });
  });

  test("may say what a test restore looks at", async () => {
    expect((await load("database: {url: x}")).testRestore).toEqual({
      assertions: [],
      tenants: 1,
      timeoutMs: 300_000,
    });
    const { testRestore } = await load(
      [
        "database: {url: x}",
        "testRestore:",
        "  tenants: 3",
        "  timeout: 90s",
        "  assertions:",
        "    - {name: a, database: b, sql: '(select 1)', expect: 1}",
        '    - {name: b, sql: "-- why\\n/* and */ with x as (select 1) table x", expect: null}',
      ].join("\n"),
    );
    expect(testRestore).toEqual({
      assertions: [
        { name: "a", database: "b", sql: "(select 1)", expect: 1 },
        { name: "b", database: null, sql: "-- why\n/* and */ with x as (select 1) table x", expect: null },
      ],
      tenants: 3,
      timeoutMs: 90_000,
    });
  });

  test("is judged whole: every problem at once, with path, line and what to do", async () => {
    const error = await refusal(
      [
        "sites: shop",
        "database: {url: postgresql:///shop, binDirectry: auto}",
        "minCopies: 3",
        "storages:",
        "  - {name: x, kind: ftp, path: /p}",
      ].join("\n"),
    );
    expect(error.exitCode).toBe(2);
    expect(error.message).toBe(
      [
        "jbackup.yaml has 4 errors:",
        '  line 1: unknown key "sites"; did you mean "site"?',
        '  line 2: database: unknown key "binDirectry"; did you mean "binDirectory"?',
        "  line 3: minCopies: 3 copies are wanted but only 1 storage is configured",
        '  line 5: storages[0].kind: unknown storage kind "ftp"; kinds are local, s3 (Cloudflare R2 and any S3 API) and b2',
      ].join("\n"),
    );
    expect(error.hint).toBe(`correct ${join(folder, "jbackup.yaml")}, then run jbackup config validate`);
  });

  test("is judged whole: what ties keys together is told beside what is wrong by itself", async () => {
    const error = await refusal(
      [
        "database: {url: postgresql:///shop}",
        "site: a b",
        "storages:",
        "  - {name: a, kind: local, path: /p, capacity: much}",
        "  - {name: a, kind: local, path: /q}",
        "  - {name: c, kind: local, path: /q/.}",
        "minCopies: 4",
        "retention:",
        "  d: {daily: 1, dayly: 2}",
        "  c: {}",
        "  a: {within: soon}",
        "alerts: {channels: [{name: x, kind: pigeon}, {name: x, kind: webhook, url: 'https://h'}]}",
        "testRestore: {assertions: [{name: y, sql: drop}, {name: y, sql: select 1}]}",
        "keys: {recipients: [jbk1pubx], signers: 3}",
      ].join("\n"),
    );
    expect(error.message).toBe(
      [
        "jbackup.yaml has 15 errors:",
        "  line 2: site: expected letters, digits, dots, dashes and underscores, starting with a letter or digit",
        "  line 4: storages[0].capacity: expected a size such as 500GB or 2TiB",
        '  line 5: storages[1].name: the name "a" is used twice',
        '  line 6: storages[2]: the same place as storage "a": two copies there are lost together',
        "  line 7: minCopies: 4 copies are wanted but only 3 storages are configured",
        '  line 9: retention.d: there is no storage "d"; did you mean "a"?',
        '  line 9: retention.d: unknown key "dayly"; did you mean "daily"?',
        "  line 10: retention.c: an empty policy would keep nothing; give within, last, daily, ...",
        "  line 11: retention.a.within: expected a duration such as 30d, 1h or 5m",
        "  line 12: alerts.channels[0].kind: expected a channel of kind email, webhook or sms",
        '  line 12: alerts.channels[1].name: the name "x" is used twice',
        "  line 13: testRestore.assertions[0].sql: expected one query: it begins with select, with, values or table",
        '  line 13: testRestore.assertions[1].name: the name "y" is used twice',
        "  line 14: keys.signers: expected a list",
        "  line 14: keys: recipients without a signing key: backups must be signed; add signing (jbackup keys new)",
      ].join("\n"),
    );
  });

  test.each([
    [
      "a list that is misspelt",
      "database: {url: x}\nstorage: [{name: r2, kind: local, path: /p}]\nminCopies: 2\nretention: {r2: {daily: 1}}",
      'line 2: unknown key "storage"; did you mean "storages"?',
    ],
    [
      "a name that cannot be read",
      "database: {url: x}\nstorages: [{nam: r2, kind: local, path: /p}]\nretention: {r2: {daily: 1}}",
      'line 2: storages[0]: unknown key "nam"; did you mean "name"?',
    ],
    [
      "a storage of no kind",
      "database: {url: x}\nstorages: [{name: r2, kind: ftp}, {name: b, kind: local, path: /p}]\nminCopies: 2\nretention: {r2: {daily: 1}}",
      'line 2: storages[0].kind: unknown storage kind "ftp"; kinds are local, s3 (Cloudflare R2 and any S3 API) and b2',
    ],
    [
      "a window that is misspelt",
      "database: {url: x}\nretention: {pitrWindw: 30d}",
      'line 2: retention.pitrWindw: there is no storage "pitrWindw"; did you mean "pitrWindow"?',
    ],
    [
      "a section that is misspelt",
      "databse: {url: x}",
      'line 1: unknown key "databse"; did you mean "database"?',
    ],
    [
      "a signing key that is misspelt",
      "database: {url: x}\nkeys: {recipients: [jbk1pubx], signin: {file: s}}",
      'line 2: keys: unknown key "signin"; did you mean "signing"?',
    ],
    [
      "recipients that are misspelt",
      "database: {url: x}\nkeys: {recipient: [jbk1pubx], signing: {file: s}}",
      'line 2: keys: unknown key "recipient"; did you mean "recipients"?',
    ],
  ])("has one error where one is the reason of others: %s", async (_, text, message) => {
    expect((await refusal(text)).message).toBe(`jbackup.yaml has an error: ${message}`);
  });

  test("with a key that stands there twice is judged to its end", async () => {
    const error = await refusal("database: {url: x}\nsite: a\nsite: b\nminCopies: 0");
    expect(error.message).toBe(
      [
        "jbackup.yaml has 2 errors:",
        "  line 3: not valid YAML: Map keys must be unique",
        "  line 4: minCopies: must be at least 1",
      ].join("\n"),
    );
  });

  test.each([
    ["database: {url: [}", /line 1: not valid YAML/],
    ["{}", /has an error: database: is required$/],
    [
      "database: {url: {env: A, file: B}}",
      /database\.url: expected a value, \{env: NAME\}, \{file: PATH\} or \{command: \[PROGRAM, ARGUMENT\]\}/,
    ],
    [
      "database: {url: x}\nminCopies: 2",
      /line 2: minCopies: 2 copies are wanted but only 1 storage is configured/,
    ],
    [
      "database: {url: x}\nretention: {lokal: {daily: 1}}",
      /retention\.lokal: there is no storage "lokal"; did you mean "local"\?/,
    ],
    ["database: {url: x}\nretention: {local: {}}", /an empty policy would keep nothing/],
    ["database: {url: x}\nretention: {local: {dayly: 3}}", /unknown key "dayly"; did you mean "daily"\?/],
    [
      "database: {url: x}\nobjectives: {rto: soon}",
      /objectives\.rto: expected a duration such as 30d, 1h or 5m/,
    ],
    ["database: {url: x}\nschedule: {full: daily}", /schedule\.full: expected five cron fields/],
    ["database: {url: x}\nkeys: {recipients: [jbk1pubx]}", /recipients without a signing key/],
    ["database: {url: x}\nkeys: {signing: {file: s}}", /recipients are missing/],
    ["database: {url: x}\nkeys: {identity: {file: i}}", /neither signers nor signing: no backup would be/],
    ["database: {url: x}\ncompression: {codec: lz4}", /compression\.codec: expected zstd, gzip or none/],
    [
      "database: {url: x}\nstorages: [{name: a, kind: local, path: /p}, {name: a, kind: local, path: /q}]",
      /the name "a" is used twice/,
    ],
    [
      "database: {url: x}\ntestRestore: {assertions: [{name: a, sql: 'drop table x'}]}",
      /line 2: testRestore\.assertions\[0\]\.sql: expected one query: it begins with select, with, values or table/,
    ],
    [
      "database: {url: x}\ntestRestore: {assertions: [{name: a, sql: 'select 1', expect: [1]}]}",
      /testRestore\.assertions\[0\]\.expect: expected one value: a text, a number, true, false or null/,
    ],
    [
      "database: {url: x}\ntestRestore: {assertions: [{name: a, sql: 'select 1'}, {name: a, sql: 'select 2'}]}",
      /testRestore\.assertions\[1\]\.name: the name "a" is used twice/,
    ],
    [
      "database: {url: x}\ntestRestore: {assertions: [{name: a, sql: 'select 1', expects: 1}]}",
      /unknown key "expects"; did you mean "expect"\?/,
    ],
    ["database: {url: x}\ntestRestore: {timeout: 0s}", /testRestore\.timeout: must be longer than nothing/],
    [
      "database: {url: x}\nalerts: {channels: [{name: a, kind: email, smtp: {url: x}, to: []}]}",
      /to: must not be empty$/,
    ],
    [
      "database: {url: x}\nalerts: {channels: [{name: a, kind: webhook, url: x, format: xml}]}",
      /format: expected json, slack, pagerduty$/,
    ],
    [
      "database: {url: x}\ntenants: {table: a, owners: b}",
      /tenants\.owners: expected a mapping of keys to values$/,
    ],
    ["database: {url: x}\nconfigFiles: /etc", /configFiles: expected a list$/],
    ["database: {url: x}\ntestRestore: {tenants: -1}", /testRestore\.tenants: must be at least 0/],
  ])("refuses %j", async (text, message) => {
    const error = await refusal(text);
    expect(error.message).toMatch(message);
    expect(error.code).toBe("config_invalid");
  });

  test("that is named and not there is said with its name", async () => {
    await expect(
      loadConfig({ environment: environment(), file: "nowhere.yaml", onSecret: () => undefined }),
    ).rejects.toMatchObject({
      code: "config_missing",
      message: `there is no configuration file ${join(folder, "nowhere.yaml")}`,
    });
  });
});

describe("a secret", () => {
  test("comes from a value, a variable, a file or a command, and is reported for redaction", async () => {
    await writeFile(join(folder, "secret"), "from-file\n");
    const sources = [
      ["postgresql:///plain", "postgresql:///plain"],
      ["{env: URL_HERE}", "postgresql:///from-env"],
      ["{file: secret}", "from-file"],
      ['{command: [printf, "%s", from-command]}', "from-command"],
    ];
    for (const [source, expected] of sources) {
      const seen: string[] = [];
      const config = await load(
        `site: s\ndatabase: {url: ${source?.startsWith("{") ? source : `"${source}"`}}`,
        { URL_HERE: "postgresql:///from-env" },
        seen,
      );
      expect((await config.database.url()).reveal()).toBe(expected);
      expect(seen).toEqual([]); // these addresses hold no password
    }
  });

  test("that cannot be had says what is missing, without its content", async () => {
    const missing = await load("site: s\ndatabase: {url: {env: NOT_THERE}}");
    await expect(missing.database.url()).rejects.toMatchObject({
      code: "secret_unavailable",
      message: "database.url: environment variable NOT_THERE is not set",
    });
    const failing = await load('site: s\ndatabase: {url: {command: [sh, -c, "echo topsecret; exit 3"]}}');
    await expect(failing.database.url()).rejects.toMatchObject({
      message: "database.url: the command sh ended with code 3",
    });
  });

  test("that is a private key in a file that is not there opens nothing, and is no mistake of the configuration", async () => {
    const keys = (identity: string): Promise<Config> =>
      load(
        `site: s\ndatabase: {url: "postgresql:///d"}\nkeys: {recipients: [jbk1pubx], signing: secret-x, identity: ${identity}}`,
      );
    const [missing] = (await keys("{file: gone/identity}")).keys.identities;
    if (missing?.kind !== "x25519") throw new Error("no identity");
    const error = await missing.identity().catch((caught: unknown) => caught);
    expect(error).toMatchObject({
      code: "no_key",
      exitCode: 12,
      message: `keys.identity: there is no file ${join(folder, "gone/identity")}`,
      hint: expect.stringContaining("recovery kit"),
    });
    expect(await missing.identity().catch((again: unknown) => again)).toBe(error); // so that it is told once
    const [unset] = (await keys("{env: NOT_THERE}")).keys.identities;
    if (unset?.kind !== "x25519") throw new Error("no identity");
    await expect(unset.identity()).rejects.toMatchObject({ code: "secret_unavailable" });
  });

  test.each([
    ["postgresql://u:p%40ss@h/d", ["p%40ss", "p@ss"]],
    ["postgresql:///shop?host=/var/run/postgresql", []],
    ["postgresql://u@h/d?password=one%20two", ["one%20two", "one two"]],
    ["host=h password='a b' user=u", ["a b", "a b"]],
    ["postgresql://u:p/a@b@h/d", ["p/a@b", "p/a@b"]],
    ["sqlite:/var/lib/jbackup/catalog.db", []],
  ])("inside the address %s is its password", (address, parts) => {
    expect(secretPartsOf(address)).toEqual(parts);
  });

  test.each([
    ["postgresql://u:hush@h/d", "hush"],
    ["--database-url=postgresql://u:hush@h/d", "hush"],
    ["r2=s3:https://id:hush@host/bucket", "hush"],
    ["host=h password=hush", "hush"],
  ])("typed on a command line as %s is one all the same", (word, part) => {
    expect(secretsTypedIn(["backup", word, "a@b:c"])).toEqual([part, part]);
  });

  test("of any other kind is blanked whole", async () => {
    const seen: string[] = [];
    const storage =
      "{name: r2, kind: s3, endpoint: https://h, bucket: b, accessKeyId: open, secretAccessKey: hush-hush}";
    const config = await load(
      `site: s\ndatabase: {url: "postgresql:///d"}\nstorages: [${storage}]`,
      {},
      seen,
    );
    const [r2] = config.storages;
    if (r2?.kind !== "s3") throw new Error("no S3 storage");
    await r2.secretAccessKey();
    expect(seen).toEqual(["hush-hush"]);
  });

  test("never prints itself", async () => {
    const config = await load('site: s\ndatabase: {url: "postgresql://u:topsecret@h/d"}');
    const secret = await config.database.url();
    expect(`${secret}${JSON.stringify({ secret })}`).not.toContain("topsecret");
  });
});

test("the effective configuration is shown with origins, and secrets as ***", async () => {
  const file = join(folder, "shown.yaml");
  await writeFile(file, 'database:\n  url: "postgresql://u:topsecret@h/d"\nminCopies: 1\n');
  const { values } = await describeConfig({ environment: environment(), file, onSecret: () => undefined });
  const of = (path: string) => values.find((value) => value.path === path);
  expect(of("database.url")).toEqual({ path: "database.url", value: "***", origin: "line 2" });
  expect(of("minCopies")).toEqual({ path: "minCopies", value: 1, origin: "line 3" });
  expect(of("compression.level")).toEqual({ path: "compression.level", value: 3, origin: "default" });
  expect(JSON.stringify(values)).not.toContain("topsecret");
});

describe("a configuration that nobody named", () => {
  const own = '{database: {url: "postgresql:///d"}}';
  const found = async (mode: number, folderMode = 0o755, uid?: number): Promise<string> => {
    const here = await mkdtemp(join(folder, "here-"));
    const file = join(here, "jbackup.yaml");
    await writeFile(file, own);
    await chmod(file, mode);
    await chmod(here, folderMode);
    if (uid !== undefined) await chown(file, uid, uid);
    const request = {
      environment: { ...environment(), workingDirectory: here },
      onSecret: () => undefined,
    };
    return loadConfig(request).then(
      (config) => config.file.slice(here.length + 1),
      (error: JBackupError) => error.message.replace(here, "."),
    );
  };
  const REFUSED = "./jbackup.yaml is not taken unasked: others than you can write it";

  test("is taken from the folder at hand where nobody else can write it", async () => {
    expect(await found(0o640)).toBe("jbackup.yaml");
    expect(await found(0o640, 0o1777)).toBe("jbackup.yaml");
  });

  test("is refused where others can: it names programs to run", async () => {
    expect(await found(0o666)).toBe(REFUSED);
    expect(await found(0o640, 0o777)).toBe(REFUSED);
  });

  test.runIf(process.getuid?.() === 0)("is refused to root where it is somebody else's", async () => {
    expect(await found(0o640, 0o755, 65534)).toBe(REFUSED);
  });
});
