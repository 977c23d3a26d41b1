import { createHmac } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { openCatalog } from "../../src/catalog/catalogs.js";
import type { Run } from "../../src/domain/backup.js";
import { systemClock } from "../../src/sys/clock.js";
import { query } from "../support/awkward.js";
import { filesBelow } from "../support/files.js";
import { type HookServer, startHookServer } from "../support/hook.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";
import { type MailServer, startMailServer } from "../support/smtp.js";
import { wrapPrograms } from "../support/wrappers.js";

interface Told {
  event: string;
  type: string;
  severity: string;
  message: string;
  fingerprint: string;
}

let server: TestPostgres;
let mail: MailServer;
let hook: HookServer;
let site: TestSite;
const TOKEN = "T0K3N-in-the-path";
const SIGNING = "signing-s3cret";
const BACKUP = ["backup", "full", "--logical"];

beforeAll(async () => {
  [server, mail, hook] = await Promise.all([startPostgres(), startMailServer(), startHookServer()]);
  await query(server.url(), "create database shop");
});
afterAll(() => Promise.all([server?.stop(), mail?.stop(), hook?.stop()]));

const configOf = (programs?: string, more: string[] = []): string =>
  [
    "site: shop-prod",
    `database: {url: "${server.url("shop")}"${programs === undefined ? "" : `, binDirectory: ${programs}`}}`,
    "storages:",
    `  - {name: local, kind: local, path: ${site.folder}/local}`,
    "alerts:",
    "  channels:",
    "    - {name: ops, kind: email, smtp: {url: {env: SMTP_URL}, from: jbackup@example.com}, to: [ops@example.com]}",
    "    - {name: hook, kind: webhook, url: {env: HOOK_URL}, secret: {env: HOOK_SECRET}, atLeast: error}",
    ...more,
    "",
  ].join("\n");

beforeEach(async () => {
  mail.refuses = false;
  hook.mood = 200;
  mail.mails.length = 0;
  hook.posted.length = 0;
  await query(
    server.url("shop"),
    "drop table if exists orders",
    "create table orders as select g as id, md5(g::text) as note from generate_series(1, 20000) g",
  );
  site = await makeSite({
    here: true,
    url: server.url("shop"),
    environment: { SMTP_URL: mail.url, HOOK_URL: `${hook.url}/services/${TOKEN}`, HOOK_SECRET: SIGNING },
  });
  await site.configure(configOf());
});
afterEach(() => site?.remove());

const told = (): Told[] => hook.posted.map(({ body }) => JSON.parse(body));
const openTypes = async (): Promise<string[]> =>
  (await site.json(["alerts"])).map(({ type }: { type: string }) => type);
const subjects = (): string[] =>
  mail.mails.map(
    (text) => /^Subject: (.*(?:\r?\n[ \t].*)*)/m.exec(text)?.[1]?.replace(/\r?\n[ \t]/g, " ") ?? "",
  );

test.each([
  ["dies", 'echo "pg_dump: error: out of luck" >&2; exit 1'],
  ["writes nothing", "exit 0"],
])("a pg_dump that %s is told once, on every channel, signed, and its cure as well", async (_how, script) => {
  const programs = await wrapPrograms(server.binDirectory, { pg_dump: script });
  try {
    await site.configure(configOf(programs));
    for (let nth = 0; nth < 2; nth++) expect((await site.run(...BACKUP)).code).not.toBe(0);
    expect(told().map(({ event, type, severity }) => [event, type, severity])).toEqual([
      ["raised", "BACKUP_FAILURE", "critical"],
    ]);
    expect(subjects()).toHaveLength(1);
    expect(subjects()[0]).toMatch(/^\[jbackup shop-prod\] CRITICAL backup full-\d+-\d+ failed/);
    const { headers, body } = hook.posted[0] as (typeof hook.posted)[number];
    const [, seconds, signature] =
      /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers["x-jbackup-signature"])) ?? [];
    expect(signature).toBe(createHmac("sha256", SIGNING).update(`${seconds}.${body}`).digest("hex"));
    expect(Math.abs(Date.now() / 1000 - Number(seconds))).toBeLessThan(300);
    const [open] = await site.json(["alerts"]);
    expect(open).toMatchObject({ type: "BACKUP_FAILURE", occurrences: 2, status: "active" });
    expect([...open.channels].sort()).toEqual(["hook", "ops"]);

    await site.configure(configOf());
    await site.json(BACKUP);
    expect(told().map(({ event }) => event)).toEqual(["raised", "resolved"]);
    expect(subjects()[1]).toContain("resolved: ");
    expect(await openTypes()).toEqual([]);
  } finally {
    rmSync(programs, { recursive: true });
  }
});

test("a backup that cannot even begin is told, a wrong flag is not, and both are over with the next good one", async () => {
  await site.configure(configOf().replace(server.url("shop"), "postgresql://nobody@127.0.0.1:1/shop"));
  for (let nth = 0; nth < 2; nth++) expect((await site.run(...BACKUP)).code).toBe(1);
  expect(await site.json(["alerts"])).toMatchObject([
    {
      type: "BACKUP_FAILURE",
      severity: "critical",
      occurrences: 2,
      message: expect.stringMatching(/cannot reach PostgreSQL/),
    },
  ]);
  await site.configure(configOf());
  await site.json(BACKUP);
  expect((await site.run(...BACKUP, "--nothing")).code).toBe(2);
  expect(told().map(({ event }) => event)).toEqual(["raised", "resolved"]);
  expect(await openTypes()).toEqual([]);
});

test("a backup half the usual size is told in a sentence, and the next usual one resolves it", async () => {
  for (let nth = 0; nth < 5; nth++) await site.json(BACKUP);
  expect(told()).toEqual([]);
  await query(server.url("shop"), "delete from orders where id % 2 = 0", "vacuum full orders");
  await site.json(BACKUP);
  expect(told()).toMatchObject([{ event: "raised", type: "SIZE_DEVIATION", severity: "error" }]);
  expect(told()[0]?.message).toMatch(/holds \d\d % less than usual/);
  await query(
    server.url("shop"),
    "insert into orders select g, md5(g::text) from generate_series(1, 10000) g",
  );
  await site.json(BACKUP);
  expect(told().map(({ event }) => event)).toEqual(["raised", "resolved"]);
});

test("a job that never ran is told once, and resolved when it runs", async () => {
  await site.configure(configOf(undefined, ['schedule: {full: "0 2 * * *", verify: "0 5 * * *"}']));
  const catalog = await openCatalog(`sqlite:${join(site.home, "catalog.db")}`, { clock: systemClock });
  const startedAt = new Date(Date.now() - 3 * 86_400_000).toISOString();
  const run: Run = {
    id: "019aa000-0000-7000-8000-000000000001",
    job: "backup-tenant",
    status: "succeeded",
    startedAt,
    finishedAt: startedAt,
    host: "h",
    pid: 1,
    exitCode: 0,
    error: null,
    metadata: {},
  };
  await catalog.saveRun(run);
  await catalog.close();
  for (let nth = 0; nth < 2; nth++) await site.json(["alerts", "check"]);
  expect(
    told()
      .map(({ type, fingerprint }) => [type, fingerprint])
      .sort(),
  ).toEqual([
    ["STALE_BACKUP", "missed:backup-full"],
    ["STALE_BACKUP", "missed:verify"],
  ]);
  expect(told()[0]?.message).toMatch(/backup-full should have run at .*T02:00:00.000Z and did not$/);
  await site.json(BACKUP);
  await site.json(["verify"]); // of one backup: what was missed is a verification of all
  expect(await openTypes()).toEqual(["STALE_BACKUP"]);
  await site.json(["verify", "--all"]);
  expect(await openTypes()).toEqual([]);
  expect(told().filter(({ event }) => event === "resolved")).toHaveLength(2);
});

test("a recovery that nobody practised is told once the site is old enough, and resolved by a drill", async () => {
  await site.configure(configOf(undefined, ["objectives: {drillEvery: 1m}"]));
  const catalog = await openCatalog(`sqlite:${join(site.home, "catalog.db")}`, { clock: systemClock });
  await site.json(BACKUP);
  const [backup] = await catalog.backups({ limit: 1 });
  if (backup === undefined) throw new Error("no backup was made");
  await site.json(["alerts", "check"]);
  expect(await openTypes()).toEqual([]);
  const ago = (minutes: number): string => new Date(Date.now() - minutes * 60_000).toISOString();
  await catalog.saveBackups([
    { ...backup, id: "019aa000-0000-7000-8000-000000000002", label: "old", createdAt: ago(3) },
  ]);
  for (let nth = 0; nth < 2; nth++) await site.json(["alerts", "check"]);
  expect(await site.json(["alerts"])).toMatchObject([
    { type: "DRILL_OVERDUE", severity: "warning", message: "no recovery was ever practised here" },
  ]);
  await catalog.saveDrill({
    id: "019aa000-0000-7000-8000-000000000003",
    runbook: "server-lost",
    drill: true,
    status: "succeeded",
    startedAt: ago(0),
    finishedAt: ago(0),
    rtoMs: 1,
    rpoMs: 1,
    steps: [],
    initiatedBy: "x@y",
    metadata: {},
  });
  await catalog.close();
  await site.json(["alerts", "check"]);
  expect(await openTypes()).toEqual([]);
});

test("alerts test says which channel works and which does not", async () => {
  mail.refuses = true;
  const failing = await site.run("alerts", "test");
  expect(failing.code).toBe(1);
  expect(failing.stdout).toMatch(/^ops: FAILED: channel ops could not send a mail: SMTP 452$/m);
  expect(failing.stdout).toMatch(/^hook: sent in /m);
  mail.refuses = false;
  expect((await site.run("alerts", "test")).code).toBe(0);
});

test("a failing channel is an alert of its own, told through one that works, and no backup fails for it", async () => {
  mail.refuses = true;
  const programs = await wrapPrograms(server.binDirectory, { pg_dump: "exit 1" });
  try {
    await site.configure(configOf(programs));
    expect((await site.run(...BACKUP)).code).toBe(1);
    expect(told().map(({ type }) => type)).toEqual(["BACKUP_FAILURE", "CHANNEL_FAILURE"]);
    expect(mail.mails).toEqual([]);
    await site.configure(configOf());
    const good = await site.run(...BACKUP);
    expect(good.code, good.stderr).toBe(0);
  } finally {
    rmSync(programs, { recursive: true });
  }
});

test("a webhook that hangs costs a backup its limit and nothing else", async () => {
  hook.mood = "hangs";
  const programs = await wrapPrograms(server.binDirectory, { pg_dump: "exit 1" });
  try {
    await site.configure(configOf(programs));
    const started = Date.now();
    expect((await site.run(...BACKUP)).code).toBe(1);
    expect(Date.now() - started).toBeLessThan(30_000);
    expect(
      subjects().some((subject) => subject.includes("channel hook could not be reached: no answer within")),
    ).toBe(true);
  } finally {
    rmSync(programs, { recursive: true });
  }
});

test("what a server answers, and every secret, stays out of the catalog, the journal and all output", async () => {
  hook.mood = 500;
  const programs = await wrapPrograms(server.binDirectory, { pg_dump: "exit 1" });
  try {
    await site.configure(configOf(programs));
    const ran = await site.run(...BACKUP, "--verbose");
    const tested = await site.run("alerts", "test", "--json");
    const listed = await site.run("alerts", "--json");
    const texts = [ran, tested, listed].flatMap(({ stdout, stderr }) => [stdout, stderr]);
    for (const path of filesBelow(site.home)) texts.push(readFileSync(path, "latin1"));
    for (const secret of [TOKEN, SIGNING]) expect(texts.filter((text) => text.includes(secret))).toEqual([]);
    expect(tested.stdout).toContain("was refused: HTTP 500");
  } finally {
    rmSync(programs, { recursive: true });
  }
});

test("an acknowledged alert keeps who, when and why, in the audit as well", async () => {
  const programs = await wrapPrograms(server.binDirectory, { pg_dump: "exit 1" });
  try {
    await site.configure(configOf(programs));
    await site.run(...BACKUP);
    const [open] = await site.json(["alerts"]);
    const acked = await site.json(["alerts", "ack", open.id, "--note", "looking into it"]);
    expect(acked).toMatchObject({ status: "acknowledged", note: "looking into it" });
    const closed = await site.json(["alerts", "resolve", open.id, "--note", "new disk"]);
    expect(closed).toMatchObject({ status: "resolved", note: "new disk" });
    const entries: { action: string }[] = await site.json(["audit", "show"]);
    expect(entries.map(({ action }) => action).filter((action) => !action.startsWith("config."))).toEqual([
      "alert.resolve",
      "alert.acknowledge",
    ]);
    const checked = await site.json(["audit", "check"]);
    expect(checked).toMatchObject({ ok: true, entries: entries.length, brokenAt: null });
  } finally {
    rmSync(programs, { recursive: true });
  }
});

test("heartbeats are sent for the beginning and the end", async () => {
  await site.configure(configOf(undefined, [`  heartbeats: {full: {url: "${hook.url}/ping/abc"}}`]));
  await site.json(BACKUP);
  expect(hook.posted.map(({ path }) => path).sort()).toEqual(["/ping/abc", "/ping/abc/start"]);
});

test.each([
  [["alerts", "ack"], 2, "alerts ack needs the alert's id"],
  [["alerts", "ack", "nothing", "--note", "x"], 10, 'there is no open alert "nothing"'],
  [["alerts", "resolve", "nothing"], 2, "--note is missing"],
  [["alerts", "tset"], 2, 'alerts does not know "tset"; did you mean "test"?'],
  [["alerts", "test", "tape"], 10, 'there is no channel "tape"'],
])("%j is refused in one sentence", async (args, code, message) => {
  const ran = await site.run(...args, "--json");
  expect(ran.code).toBe(code);
  expect(JSON.parse(ran.stdout).error.message).toContain(message);
  expect(JSON.parse(ran.stdout).error.hint).toBeTruthy();
});
