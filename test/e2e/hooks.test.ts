import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { query } from "../support/awkward.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
let site: TestSite;
const BACKUP = ["backup", "full", "--logical"];

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  await query(server.url("shop"), "create table orders as select g as id from generate_series(1, 100) g");
  site = await makeSite({
    url: server.url("shop"),
    environment: { SIGNING: "from-the-environment-s3cret", HARMLESS: "stays" },
  });
});
afterEach(() => rmSync(join(site.folder, "log"), { force: true }));
afterAll(async () => {
  await site?.remove();
  await server?.stop();
});

const log = (): string[] => readFileSync(join(site.folder, "log"), "utf8").trim().split("\n");

async function withHooks(hooks: string, more: string[] = []): Promise<void> {
  await site.configure(
    [
      "site: test",
      `database: {url: "${server.url("shop")}"}`,
      `storages: [{name: local, kind: local, path: ${site.folder}/local}]`,
      `hooks: ${hooks.replaceAll("LOG", join(site.folder, "log"))}`,
      ...more,
      "",
    ].join("\n"),
  );
}

const openAlerts = async (): Promise<{ severity: string; message: string }[]> => site.json(["alerts"]);

test("commands run before and behind a backup, and are told what it is about", async () => {
  await withHooks(`
  beforeBackup: ['echo "$JBACKUP_HOOK $JBACKUP_KIND $JBACKUP_STATUS [$JBACKUP_ID]" >> LOG']
  afterBackup:
    - 'echo "$JBACKUP_HOOK $JBACKUP_ID $JBACKUP_LABEL $JBACKUP_STATUS $JBACKUP_COPIES" >> LOG'
    - [/bin/sh, -c, 'echo "$0 $1" >> LOG', 'with $HOME; and blanks', "it's"]
  onFailure: ['echo failed >> LOG']`);
  const backup = await site.json(BACKUP);
  expect(log()).toEqual([
    "beforeBackup full starting []",
    `afterBackup ${backup.id} ${backup.label} completed local`,
    "with $HOME; and blanks it's",
  ]);
});

test("one that fails before it refuses the backup: nothing is begun, and people are told", async () => {
  const before = await site.json(["list"]);
  await withHooks(`
  beforeBackup: ['echo "disk is being resized" >&2; exit 7', 'echo second >> LOG']
  onFailure: ['echo "$JBACKUP_STATUS: $JBACKUP_ERROR" >> LOG']`);
  const ran = await site.run(...BACKUP);
  expect(ran.code).toBe(1);
  const problem = "hooks.beforeBackup: echo ended with code 7: disk is being resized";
  expect(ran.stderr).toContain(`Error: ${problem}\nTry: run that command by hand, or take it out of hooks`);
  expect(log()).toEqual([`failed: ${problem}`]);
  expect(await site.json(["list"])).toEqual(before);
  expect(await openAlerts()).toMatchObject([{ severity: "critical", message: problem }]);
  await withHooks("{}");
  await site.json(BACKUP);
  expect(await openAlerts()).toEqual([]);
});

test("one that fails behind it is told about, and the backup stays what it is", async () => {
  await withHooks("{afterBackup: [[/no/such/program, argument]]}");
  const ran = await site.run(...BACKUP);
  expect(ran.code).toBe(0);
  expect(ran.stderr).toMatch(
    /Warning: hooks.afterBackup: \/no\/such\/program ended with code 127: .*; the backup is stored all the same/,
  );
  expect(await openAlerts()).toMatchObject([{ severity: "warning" }]);
  await withHooks("{afterBackup: ['true']}");
  await site.json(BACKUP);
  expect(await openAlerts()).toEqual([]);
});

test("a failed backup runs the commands for that; one that takes too long is ended", async () => {
  await withHooks(
    "{onFailure: ['echo \"$JBACKUP_KIND $JBACKUP_ERROR\" >> LOG'], beforeBackup: ['sleep 30'], timeout: 1s}",
  );
  const ran = await site.run(...BACKUP);
  expect(ran.code).toBe(1);
  expect(ran.stderr).toContain("hooks.beforeBackup: sleep took longer than 1 s: it printed nothing");
  expect(log()).toEqual(["full hooks.beforeBackup: sleep took longer than 1 s: it printed nothing"]);
});

test("secrets of the configuration are not in their environment, and other variables are", async () => {
  await withHooks("{beforeBackup: ['env >> LOG']}", ["alerts: {heartbeats: {full: {url: {env: SIGNING}}}}"]);
  await site.run(...BACKUP);
  expect(log()).toContain("HARMLESS=stays");
  expect(log().join("\n")).not.toContain("s3cret");
});

test("a stop lets what was halted go on", async () => {
  await withHooks("{beforeBackup: ['echo halted >> LOG', 'sleep 30'], onFailure: ['echo goes on >> LOG']}");
  const running = site.start(BACKUP);
  for (let waited = 0; waited < 10_000; waited += 50) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    try {
      if (log().includes("halted")) break;
    } catch {
      // not yet
    }
  }
  process.kill(running.pid, "SIGTERM");
  expect((await running).code).toBe(143);
  expect(log()).toEqual(["halted", "goes on"]);
});

test("a command that is none is refused when the configuration is read", async () => {
  await withHooks("{beforeBackup: [{run: x}]}");
  const ran = await site.run("list");
  expect(ran.code).toBe(2);
  expect(ran.stderr).toContain(
    'hooks.beforeBackup[0]: expected a command such as "/usr/local/bin/notify done"',
  );
});
