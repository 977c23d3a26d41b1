import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { openCatalog } from "../../src/catalog/catalogs.js";
import type { Alert, Backup, Restore } from "../../src/domain/backup.js";
import type { Site } from "../../src/engine/site.js";
import { backupNumber } from "../contract/catalogRecords.js";
import { HandClock, jbackup } from "./captured.js";

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "jbackup-cli-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const copy = (storage: string, status: "stored" | "missing") =>
  ({ storage, kind: "local", status, path: "p", bytes: 10, verifiedAt: null }) as const;

const whole: Backup = backupNumber(1, {
  label: "full-20261120-090000",
  kind: "full",
  method: "logical",
  status: "completed",
  createdAt: "2026-11-20T09:00:00.000Z",
  finishedAt: "2026-11-20T09:01:30.000Z",
  durationMs: 90_000,
  rawBytes: 9_000_000,
  storedBytes: 3_000_000,
  compressionRatio: 3,
  copies: [copy("local", "stored"), copy("r2", "stored")],
  note: "before the upgrade",
});
const partial: Backup = {
  ...backupNumber(2),
  ...part({ copies: [copy("local", "stored"), copy("r2", "missing")] }),
};
const failed: Backup = {
  ...backupNumber(3),
  ...part({ label: "full-20261119-020000", status: "failed", storedBytes: 0, durationMs: null, copies: [] }),
};

function part(change: Partial<Backup>): Partial<Backup> {
  return {
    label: "full-20261119-090000",
    kind: "full",
    method: "logical",
    status: "completed",
    createdAt: `2026-11-19T0${change.status === "failed" ? 2 : 9}:00:00.000Z`,
    durationMs: 1_500,
    storedBytes: 1_000,
    note: null,
    ...change,
  };
}

const restored: Restore = {
  id: "0199a000-0000-7000-8000-00000000000a",
  backupId: whole.id,
  mode: "full",
  status: "completed",
  target: "shop",
  targetTime: null,
  tenantIds: [],
  rowsRestored: 1_234_567,
  startedAt: "2026-11-20T11:00:00.000Z",
  finishedAt: "2026-11-20T11:02:00.000Z",
  durationMs: 120_000,
  tables: [],
  warnings: [],
  error: null,
  reason: "bad\nmigration",
  initiatedBy: "ops@db1",
  jobId: "job",
  metadata: {},
};

const alert: Alert = {
  id: "0199a000-0000-7000-8000-00000000000b",
  type: "COPY_MISSING",
  severity: "warning",
  status: "active",
  fingerprint: "copy:r2",
  message: "storage r2 misses a backup",
  hint: "jbackup storages check",
  backupId: partial.id,
  storage: "r2",
  createdAt: "2026-11-20T10:00:00.000Z",
  lastSeenAt: "2026-11-20T11:00:00.000Z",
  occurrences: 2,
  channels: [],
  sentAt: null,
  acknowledgedAt: null,
  acknowledgedBy: null,
  resolvedAt: null,
  resolvedBy: null,
  note: null,
  metadata: {},
};

/** Commands that look into the history need no more of a site than its catalog. */
async function openHistory(): Promise<Site> {
  const catalog = await openCatalog("sqlite::memory:", { clock: new HandClock() });
  await catalog.saveBackups([whole, partial, failed]);
  await catalog.saveRestore(restored);
  await catalog.saveAlert(alert);
  await catalog.saveAlert({
    ...alert,
    id: `${alert.id.slice(0, -1)}c`,
    fingerprint: "other",
    status: "resolved",
  });
  return { catalog, close: () => catalog.close() } as unknown as Site;
}

const inHistory = (line: string, columns?: number) =>
  jbackup(line.split(" "), { openSite: openHistory, ...(columns === undefined ? {} : { columns }) });

describe("jbackup list", () => {
  test("shows each backup, its age, and which copy is missing", async () => {
    expect((await inHistory("list")).stdout).toBe(
      [
        "LABEL                 STATUS     WHEN     STORED        TOOK  METHOD   COPIES              NOTE",
        "full-20261120-090000  completed  3 h ago  3.0 MB  1 min 30 s  logical  local, r2           before the upgrade",
        "full-20261119-090000  completed  1 d ago  1.0 kB       1.5 s  logical  local (r2 missing)",
        "full-20261119-020000  failed     1 d ago       -           -  logical  none",
        "",
      ].join("\n"),
    );
  });

  test("fits a terminal of 60 columns", async () => {
    const { stdout } = await inHistory("list", 60);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are told by their escape codes
    expect(stdout.replaceAll(/\u001b\[\d+m/g, "")).toBe(
      [
        "LABEL                 STATUS     WHEN     COPIES",
        "full-20261120-090000  completed  3 h ago  local, r2",
        "full-20261119-090000  completed  1 d ago  local (r2 missing)",
        "full-20261119-020000  failed     1 d ago  none",
        "",
      ].join("\n"),
    );
    expect(stdout).toContain("\u001b[32mcompleted\u001b[39m");
    expect(stdout).toContain("\u001b[31mfailed\u001b[39m");
  });

  test("under --json answers the records themselves", async () => {
    expect(JSON.parse((await inHistory("list --json")).stdout)).toEqual([whole, partial, failed]);
  });

  test.each([
    ["--status failed", [failed.id]],
    ["--since 4h", [whole.id]],
    ["--since 2026-11-19T03:00Z --until 2026-11-20", [partial.id]],
    ["--limit 2", [whole.id, partial.id]],
    ["--kind tenant", []],
    ["--tenant 42", []],
  ])("filters by %s", async (flags, ids) => {
    const { stdout } = await inHistory(`list --json ${flags}`);
    expect(JSON.parse(stdout).map(({ id }: Backup) => id)).toEqual(ids);
  });

  test("with nothing to show says so, and is [] under --json", async () => {
    expect((await inHistory("list --kind wal")).stdout).toBe(
      "No backups match. jbackup backup full makes one; jbackup catalog rebuild finds those in the storages.\n",
    );
    expect((await inHistory("list --kind wal --json")).stdout).toBe("[]\n");
  });
});

test("jbackup restores shows who, why and what, each on one line", async () => {
  expect((await inHistory("restores")).stdout).toBe(
    [
      "ID             WHEN     STATUS     MODE  TARGET       ROWS       TOOK  BY       REASON",
      "0199a000-0000  1 h ago  completed  full  shop    1,234,567  2 min 0 s  ops@db1  bad migration",
      "",
    ].join("\n"),
  );
  expect(JSON.parse((await inHistory("restores --json")).stdout)).toEqual([restored]);
  expect((await inHistory("restores --status failed")).stdout).toBe("No restores are recorded.\n");
});

test("jbackup alerts shows what is open, with what to do", async () => {
  expect((await inHistory("alerts")).stdout).toBe(
    [
      "SEVERITY  TYPE          STATUS  SINCE    TIMES",
      "warning   COPY_MISSING  active  2 h ago      2",
      "  storage r2 misses a backup",
      "  Try: jbackup storages check",
      "",
    ].join("\n"),
  );
  expect(JSON.parse((await inHistory("alerts --json")).stdout)).toEqual([alert]);
  expect(JSON.parse((await inHistory("alerts --json --status all")).stdout)).toHaveLength(2);
});

describe("jbackup config", () => {
  const write = (text: string): string => {
    const file = join(temporaryDirectory(), "jbackup.yaml");
    writeFileSync(file, text);
    return file;
  };
  const variables = { HOME: "/home/ops", JBACKUP_HOME: "/home/ops/jb" };

  test("show blanks secrets and names origins", async () => {
    const file = write('site: shop\ndatabase:\n  url: "postgresql://u:hunter22@db/shop"\n');
    const { exitCode, stdout } = await jbackup(["config", "show", "--origin", "--config", file], {
      variables,
    });
    expect(exitCode).toBe(0);
    expect(stdout).not.toContain("hunter22");
    const rows = stdout.split("\n").map((line) => line.split(/ {2,}/));
    expect(rows.slice(0, 4)).toEqual([
      [`# ${file}`],
      ["KEY", "VALUE", "ORIGIN"],
      ["site", "shop", "line 1"],
      ["database.url", "***", "line 3"],
    ]);
    expect(rows).toContainEqual(["minCopies", "1", "default"]);
    const { stdout: json } = await jbackup(["config", "show", "--json", "--config", file], { variables });
    expect(JSON.parse(json)).toMatchObject({ site: "shop", database: { url: "***" }, minCopies: 1 });
  });

  test("validate names every secret that cannot be had", async () => {
    const file = write(
      [
        "site: shop",
        "database: {url: {env: NO_URL}}",
        "storages:",
        "  - {name: r2, kind: s3, endpoint: https://r2, bucket: b, accessKeyId: {env: NO_ID}, secretAccessKey: {file: /none}}",
        "",
      ].join("\n"),
    );
    const { exitCode, stderr } = await jbackup(["config", "validate", "--config", file], { variables });
    expect(exitCode).toBe(2);
    for (const problem of [
      "database.url: environment variable NO_URL is not set",
      "storages r2: accessKeyId: environment variable NO_ID is not set",
      "storages r2: secretAccessKey: cannot read /none",
    ])
      expect(stderr).toContain(`\n  ${problem}`);
  });

  test("validate answers what it read", async () => {
    const file = write("site: shop\ndatabase: {url: postgresql:///shop}\n");
    expect(await jbackup(["config", "validate", "--config", file], { variables })).toEqual({
      exitCode: 0,
      stdout: `${file} is valid: site shop, storages local (local).\nNext: jbackup storages check\n`,
      stderr: "",
    });
  });
});

test("jbackup keys new prints what to put into the configuration, and no private key", async () => {
  const directory = temporaryDirectory();
  const { createKeys } = await import("../../src/wire.js");
  const out = join(directory, "my, keys #1");
  const { exitCode, stdout, stderr } = await jbackup(["keys", "new", "--out", out], { createKeys });
  expect([exitCode, stderr]).toEqual([0, ""]);
  const [identity, signing, recipient, signer] = ["identity", "signing", "recipient", "signer"].map((name) =>
    readFileSync(join(out, name), "utf8").trim(),
  );
  for (const secret of [identity, signing]) expect(stdout).not.toContain(secret);
  const { parse } = await import("yaml");
  const lines = stdout.split("\n");
  const yaml = lines.slice(lines.indexOf("keys:"), lines.indexOf("", lines.indexOf("keys:")));
  yaml.push(lines.find((line) => line.startsWith("  identity:")) ?? "");
  expect(parse(yaml.join("\n"))).toEqual({
    keys: {
      recipients: [recipient],
      signing: { file: join(out, "signing") },
      signers: [signer],
      identity: { file: join(out, "identity") },
    },
  });
  const again = await jbackup(["keys", "new", "--out", out], { createKeys });
  expect([again.exitCode, again.stdout]).toEqual([14, ""]);
});

describe("jbackup restore is refused before anything is opened", () => {
  test.each([
    ["--reason x --on-conflict overwrite", "--on-conflict works with --mode merge only"],
    ["--reason x --mode merge --in-place", "--in-place works with --mode full only"],
    ["--reason x --jobs 0", '--jobs cannot be "0"'],
    ["--confirm shop --reason --dry-run", "--reason needs a value, but --dry-run follows it"],
    ["--tenant --dry-run --reason x", "--tenant needs a value, but --dry-run follows it"],
    ["--reason x --mode ful", '--mode cannot be "ful"; did you mean "full"?'],
  ])("with %s", async (flags, message) => {
    const { exitCode, stderr } = await jbackup(["restore", ...flags.split(" ")]);
    expect([exitCode, stderr.split("\n")[0]]).toEqual([2, `Error: ${message}`]);
  });

  test("with a reason that says nothing", async () => {
    expect((await jbackup(["restore", "--reason", "  "])).exitCode).toBe(2);
  });
});

test("catalog migrate says what had to be done", async () => {
  const done = { catalog: "sqlite:/somewhere", migrations: ["0001_first_tables"] };
  const first = await jbackup(["catalog", "migrate"], { migrateCatalog: async () => done });
  expect(first.stdout).toBe("The catalog sqlite:/somewhere is up to date now (0001_first_tables).\n");
  const again = await jbackup(["catalog", "migrate"], {
    migrateCatalog: async () => ({ ...done, migrations: [] }),
  });
  expect(again.stdout).toBe("The catalog sqlite:/somewhere was up to date.\n");
});
