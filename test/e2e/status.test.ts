import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { query } from "../support/awkward.js";
import { filesBelow } from "../support/files.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { expectRefused } from "../support/refusal.js";
import { makeSite, type Ran, type TestSite } from "../support/site.js";
import { openTerminal } from "../support/terminal.js";

let server: TestPostgres;
let site: TestSite;
let isStopped = false;

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop");
  await query(server.url("shop"), "create table orders as select g as id from generate_series(1, 2000) g");
  site = await makeSite({
    url: server.url("shop"),
    name: "shop-prod",
    here: true,
    storages: (folder) => [
      `- {name: one, kind: local, path: ${folder}/one}`,
      `- {name: two, kind: local, path: ${folder}/two, capacity: 200MB}`,
    ],
    more: ['schedule: {full: "0 2 * * *", wal: "*/5 * * * *"}'],
  });
});
afterAll(async () => {
  await site?.remove();
  if (!isStopped) await server?.stop();
});

const checked = (): Promise<Ran> => site.run("status", "--check");
// biome-ignore lint/suspicious/noExplicitAny: a JSON document
const status = (): Promise<any> => site.json(["status"]);
// biome-ignore lint/suspicious/noExplicitAny: a JSON document
const codesOf = ({ health }: any): string[] => health.reasons.map(({ code }: { code: string }) => code);

describe("from a new site to one in trouble", () => {
  test("a new site has no backup, and is told to make one", async () => {
    const ran = await checked();
    expect(ran.code).toBe(2);
    expect(ran.stdout).toMatch(
      /^JBACKUP CRITICAL - shop-prod \d+\/100: there is no usable full backup \| score=\d+;;;0;100\n$/,
    );
    const fresh = await status();
    expect(fresh).toMatchObject({
      site: "shop-prod",
      next: { command: "jbackup backup full" },
      lastFull: null,
      window: null,
      rpo: { nowMs: null, objectiveMs: 300_000 },
      alerts: [],
    });
    expect(codesOf(fresh)).toEqual(["never_backed_up", "one_place"]);
    const screen = await site.run("status");
    expect(screen.code).toBe(0);
    expect(screen.stdout).toContain("Next: jbackup backup full\n");
  });

  test("after a backup and its WAL all is well, with the figures of what is stored", async () => {
    const full = await site.json(["backup", "full"]);
    await site.json(["backup", "wal"]);
    const ran = await checked();
    expect(ran.stdout).toMatch(
      /^JBACKUP OK - shop-prod \d+\/100: all is well \| .*rpo=\d+s;300;600;0 full_age=\d+s/,
    );
    expect(ran.code).toBe(0);
    const well = await status();
    expect(well.lastFull).toMatchObject({ id: full.id, storedBytes: full.storedBytes });
    const [pass] = await site.json(["list", "--kind", "wal"]);
    expect(pass.compressionRatio).toBeGreaterThan(1);
    expect(well.storages).toMatchObject([
      {
        name: "one",
        reachable: true,
        copies: { stored: 1, missing: 0, damaged: 0 },
        usedBytes: full.storedBytes + pass.storedBytes,
        lastFullAt: full.createdAt,
        verifiedAt: null,
      },
      { name: "two", capacityBytes: 200_000_000 },
    ]);
    expect(well.window).toMatchObject({ source: "storages", holes: [] });
    expect(well.window.to.lsn).toBe(pass.metadata.toLsn);
    expect(well.rpo).toMatchObject({ source: "wal", upTo: well.rpo.upTo });
    expect(well.rpo.nowMs).toBeLessThan(60_000);
    expect(well.jobs).toMatchObject([
      { name: "full", lastRun: { status: "succeeded" }, missedAt: null, schedule: "0 2 * * *" },
      { name: "wal", lastRun: { status: "succeeded" } },
      // nobody has practised yet: it wants to be done within 35 days of the first backup
      { name: "drill", lastRun: null, lastGoodAt: null, missedAt: null, schedule: null },
    ]);
    const days = (Date.parse(well.jobs[2].nextAt) - Date.now()) / 86_400_000;
    expect([days > 34.9, days <= 35]).toEqual([true, true]);
    expect(Date.parse(well.jobs[0].nextAt)).toBeGreaterThan(Date.now());
  });

  test("a verification and a restore are seen, and what a storage holds is measured", async () => {
    // a look at one backup, or at what would be cleaned up, is not the job of that name
    await site.json(["verify", "latest"]);
    await site.json(["cleanup", "--dry-run"]);
    expect((await site.run("verify", "no-such-backup")).code).toBe(10);
    expect((await status()).jobs.map(({ name }: { name: string }) => name)).toEqual(["full", "wal", "drill"]);
    await site.json(["verify", "--all"]);
    expect((await status()).jobs).toContainEqual(
      expect.objectContaining({ name: "verify", lastRun: expect.objectContaining({ status: "succeeded" }) }),
    );
    await site.json(["restore", "--into-dir", join(site.folder, "restored"), "--reason", "test"]);
    const proved = await status();
    for (const { verifiedAt } of proved.storages)
      expect(Date.now() - Date.parse(verifiedAt)).toBeLessThan(60_000);
    expect(proved.rto).toMatchObject({ source: "restore" });
    expect(proved.rto.lastMs).toBeGreaterThan(0);
    // seen in the storage itself, manifests and keys included
    expect(proved.storages[0].usedBytes).toBe(bytesBelow(join(site.folder, "one")));
  });

  test("a storage that fills up is told after the next run, and so is the room made", async () => {
    const text = readFileSync(site.configFile, "utf8");
    writeFileSync(site.configFile, text.replace("200MB", "1MB"));
    await site.json(["backup", "wal"]);
    const full = await status();
    expect(full.alerts).toMatchObject([
      {
        type: "STORAGE_CAPACITY",
        severity: "critical",
        message: expect.stringMatching(/^storage two is 100 % full/),
      },
    ]);
    expect(codesOf(full)[0]).toBe("filling:two");
    expect(full.next.command).toBe("jbackup cleanup --dry-run");
    expect((await site.run("status")).stdout).toMatch(/^shop-prod {2}\d+ of 100, critical, 1 open alert/);
    writeFileSync(site.configFile, text);
    await site.json(["backup", "wal"]);
    expect((await status()).alerts).toEqual([]);
    expect((await site.json(["alerts", "--status", "resolved"]))[0]).toMatchObject({
      type: "STORAGE_CAPACITY",
      note: "storage two has room again",
    });
  });

  test("a storage that vanished is named, and the rest is still told", async () => {
    renameSync(join(site.folder, "two"), join(site.folder, "elsewhere"));
    const ran = await checked();
    expect(ran.code).toBe(1);
    expect(ran.stdout).toMatch(
      /^JBACKUP WARNING - shop-prod \d+\/100: two cannot be read: there is no jbackup-site.json in \S+\/two \|/,
    );
    const without = await status();
    expect(without.storages[1]).toMatchObject({ reachable: false, copies: { stored: 1 } });
    expect(without.window.source).toBe("storages");
    renameSync(join(site.folder, "elsewhere"), join(site.folder, "two"));
    expect((await checked()).code).toBe(0);
  });

  test("a server that is down costs the rest neither its time nor its truth; a failed run is critical", async () => {
    const before = await status();
    await server.stop();
    isStopped = true;
    const started = Date.now();
    const down = await status();
    expect(Date.now() - started).toBeLessThan(10_000);
    expect(codesOf(down)).toContain("postgres");
    expect(down.window).toEqual({ ...before.window });
    expect((await site.run("backup", "full")).code).toBe(1);
    const ran = await checked();
    expect(ran.code).toBe(2);
    expect(ran.stdout).toMatch(/^JBACKUP CRITICAL - shop-prod \d+\/100: the last full run failed: /);
  });
});

describe("on another host", () => {
  test("with the storages alone, backups are known by their manifests; with neither, nothing is", async () => {
    const elsewhere = { JBACKUP_HOME: join(site.folder, "other-home") };
    const seen = await site.start(["status", "--json"], elsewhere);
    const { source, jobs, storages, health } = JSON.parse(seen.stdout);
    expect(source).toBe("storages");
    expect(jobs.map(({ name, missedAt }: { name: string; missedAt: null }) => [name, missedAt])).toEqual([
      ["full", null],
      ["wal", null],
    ]);
    expect(storages[0]).toMatchObject({ hasNewestFull: true });
    expect(health.state).toBe("warning"); // the server is down
    const text = readFileSync(site.configFile, "utf8");
    writeFileSync(
      site.configFile,
      `${text.replaceAll(site.folder, "/nowhere")}catalog: {url: "postgresql://nobody@127.0.0.1:1/none"}\n`,
    );
    const blind = await site.start(["status", "--check"], elsewhere);
    writeFileSync(site.configFile, text);
    expect(blind.stdout).toMatch(/^JBACKUP UNKNOWN - cannot use the catalog postgresql:/);
    expect(blind.code).toBe(3);
  });

  test("a configuration that is not there is unknown to a check, and no silent zero", async () => {
    const ran = await site.start(["status", "--check"], { JBACKUP_CONFIG: "/nowhere/jbackup.yaml" });
    expect(ran.stdout).toMatch(/^JBACKUP UNKNOWN - .*\/nowhere\/jbackup.yaml/);
    expect(ran.code).toBe(3);
  });

  test("a configuration with several errors is one line to a check, for a second one means something else", async () => {
    const wrong = join(site.folder, "wrong.yaml");
    writeFileSync(wrong, "site: x\nminCopies: many\nobjectives: {rto: soon}\n");
    const ran = await site.start(["status", "--check"], { JBACKUP_CONFIG: wrong });
    expect(ran.stdout).toMatch(
      /^JBACKUP UNKNOWN - wrong.yaml has 3 errors: database: is required; line 2: minCopies: [^\n]*; line 3: objectives.rto: [^\n]*\n$/,
    );
    expect(ran.stdout.trimEnd().split("\n")).toHaveLength(1);
    expect(ran.code).toBe(3);
  });

  test("a damaged catalog is named with the command that reads it back", async () => {
    const home = join(site.folder, "damaged-home");
    mkdirSync(home);
    writeFileSync(join(home, "catalog.db"), "no database at all".repeat(1_000));
    const seen = await site.start(["status", "--json"], { JBACKUP_HOME: home });
    const { catalog, health } = JSON.parse(seen.stdout);
    expect(catalog.hint).toMatch(/^Move the damaged catalog away and run `jbackup catalog rebuild`/);
    expect(health.reasons).toContainEqual(
      expect.objectContaining({ code: "catalog", command: "jbackup catalog rebuild" }),
    );
  });
});

describe("watching", () => {
  test("is refused where nothing can be drawn", async () => {
    const ran = await site.run("status", "--watch");
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(/^Error: --watch draws on a terminal, and this is none\nTry: /);
    expect((await site.run("status", "--watch", "--json")).code).toBe(2);
  });

  test.each([60, 80])("draws within %i columns, and ends quietly", async (columns) => {
    const terminal = openTerminal(site, ["status", "--watch"], columns);
    try {
      const screen = await terminal.see(/Ctrl-C ends it/);
      expect(screen).toMatch(/^shop-prod {2}\d+ of 100, critical/);
      expect(screen).toMatch(/PITR {2}\[[|= ]+\]/);
      for (const line of screen.split("\n")) expect(line.length).toBeLessThanOrEqual(columns);
      terminal.press("C-c");
      expect(await terminal.see(/ended with \d+/)).toMatch(/ended with 0/);
    } finally {
      terminal.close();
    }
  });
});

describe("metrics", () => {
  const SHIPPED = new URL("../../monitoring/", import.meta.url);
  const namesIn = (text: string): string[] => [...new Set(text.match(/\bjbackup_[a-z_]+/g) ?? [])];

  test("of the shipped rules and dashboard are all told", async () => {
    const { stdout } = await site.run("metrics");
    const told = [...stdout.matchAll(/^# TYPE (\S+) gauge$/gm)].map(([, name]) => name);
    for (const file of ["jbackup.rules.yml", "grafana-dashboard.json"]) {
      const text = readFileSync(new URL(file, SHIPPED), "utf8");
      expect(namesIn(text).length).toBeGreaterThan(5);
      expect(namesIn(text).filter((name) => !told.includes(name))).toEqual([]);
    }
    const { groups } = parse(readFileSync(new URL("jbackup.rules.yml", SHIPPED), "utf8"));
    for (const rule of groups[0].rules) {
      expect(rule).toMatchObject({ alert: expect.stringMatching(/^JBackup/), expr: expect.any(String) });
      expect(rule.annotations.description).toMatch(/jbackup /);
    }
    JSON.parse(readFileSync(new URL("grafana-dashboard.json", SHIPPED), "utf8"));
  });

  test("are valid text, say what status says, and are written for others to read", async () => {
    const file = join(site.folder, "collected", "jbackup.prom");
    await expectRefused(site, ["metrics", "--out", file], {
      exit: 2,
      message: `there is no folder ${site.folder}/collected to write into`,
      hint: `make it first (mkdir -p ${site.folder}/collected), or name a file in another one with --out`,
    });
    mkdirSync(join(site.folder, "collected"));
    await expectRefused(site, ["metrics", "--out", join(site.folder, "collected")], {
      exit: 2,
      message: `${site.folder}/collected is a folder`,
      hint: "name a file in it with --out",
    });
    expect((await site.run("metrics", "--out", file)).code).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o644);
    const text = readFileSync(file, "utf8");
    for (const line of text.trimEnd().split("\n"))
      expect(line).toMatch(
        /^(# (HELP|TYPE) jbackup_\w+ .+|jbackup_\w+\{site="shop-prod"(,\w+="[^"]*")*\} -?\d+(\.\d+)?(e[+-]\d+)?)$/,
      );
    const { health, storages } = await status();
    expect(text).toContain(`jbackup_health_score{site="shop-prod"} ${health.score}\n`);
    expect(text).toContain('jbackup_job_last_run_failed{site="shop-prod",name="full"} 1\n');
    expect(text).toContain(
      `jbackup_storage_used_bytes{site="shop-prod",storage="one"} ${storages[0].usedBytes}\n`,
    );
    expect(text).toContain('jbackup_alerts_open{site="shop-prod",severity="critical"} 1\n');
    expect(text).not.toContain("test_restore_timestamp_seconds{"); // not known: no zero
  });

  test("are served until stopped", async () => {
    const address = `http://127.0.0.1:${await freePort()}`;
    const running = site.start(["metrics", "--listen", address.replace("http://", "")]);
    await until(() => fetch(`${address}/healthz`));
    const scraped = await fetch(`${address}/metrics`);
    expect(scraped.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(await scraped.text()).toContain('jbackup_health_state{site="shop-prod",state="critical"} 1\n');
    expect(await (await fetch(`${address}/healthz`)).text()).toBe("ok\n");
    expect((await fetch(`${address}/other`)).status).toBe(404);
    expect((await fetch(`${address}/metrics`, { method: "POST" })).status).toBe(405);
    const second = await site.run("metrics", "--listen", address.replace("http://", ""));
    expect(second.code).toBe(16);
    expect(second.stderr).toMatch(
      /^Error: cannot listen on 127\.0\.0\.1:\d+: .*\nTry: something else listens there/,
    );
    process.kill(running.pid, "SIGTERM");
    expect((await running).code).toBe(0);
  });
});

function bytesBelow(folder: string): number {
  return ["backups", "wal"]
    .flatMap((name) => filesBelow(join(folder, name)))
    .reduce((sum, file) => sum + statSync(file).size, 0);
}

async function freePort(): Promise<number> {
  const listening = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => listening.once("listening", resolve));
  const { port } = listening.address() as { port: number };
  await new Promise((resolve) => listening.close(resolve));
  return port;
}

async function until(attempt: () => Promise<unknown>): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += 100)
    try {
      await attempt();
      return;
    } catch (error) {
      if (waitedMs > 15_000) throw error;
      await delay(100);
    }
}
