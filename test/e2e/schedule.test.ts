import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, type TestContext, test } from "vitest";
import { openCatalog } from "../../src/catalog/catalogs.js";
import type { Alert, JobRequest, Run } from "../../src/domain/backup.js";
import { systemClock } from "../../src/sys/clock.js";
import { uuid7 } from "../../src/sys/ids.js";
import { query } from "../support/awkward.js";
import { type RunningDaemon, startDaemon } from "../support/daemon.js";
import { startPostgres, type TestPostgres } from "../support/postgres.js";
import { makeSite, type TestSite } from "../support/site.js";

let server: TestPostgres;
const sites: TestSite[] = [];
/** Runs a job every minute, while other tests go on. */
let minutely: { site: TestSite; daemon: RunningDaemon };

async function siteWith(more: string[], name = "shop-prod"): Promise<TestSite> {
  const site = await makeSite({ url: server.url("shop"), name, more });
  sites.push(site);
  return site;
}

/** Ended with the test, whatever becomes of it: those of several tests run side by side. */
async function daemonOf({ onTestFinished }: TestContext, site: TestSite): Promise<RunningDaemon> {
  const daemon = await startDaemon(site);
  onTestFinished(async () => {
    await daemon.stop("SIGKILL").catch(() => undefined);
  });
  return daemon;
}

beforeAll(async () => {
  server = await startPostgres();
  await query(server.url(), "create database shop", "create database catalog");
  await query(server.url("shop"), "create table orders as select g as id from generate_series(1, 1000) g");
  const site = await siteWith(['schedule: {cleanup: "* * * * *"}'], "minutely");
  // cleanup refuses a site that has nothing
  await site.json(["backup", "full", "--logical"]);
  minutely = { site, daemon: await startDaemon(site) };
});
afterAll(async () => {
  await minutely?.daemon.stop("SIGKILL").catch(() => undefined);
  for (const site of sites) await site.remove();
  await server?.stop();
});

const runOf = (job: string, startedAt: Date, status: Run["status"] = "succeeded"): Run => ({
  id: uuid7(systemClock),
  job,
  status,
  startedAt: startedAt.toISOString(),
  finishedAt: startedAt.toISOString(),
  host: "h",
  pid: 1,
  exitCode: 0,
  error: null,
  metadata: {},
});

async function inCatalog<Answer>(
  site: TestSite,
  work: (catalog: Awaited<ReturnType<typeof openCatalog>>) => Promise<Answer>,
): Promise<Answer> {
  const catalog = await openCatalog(`sqlite:${join(site.home, "catalog.db")}`, { clock: systemClock });
  try {
    return await work(catalog);
  } finally {
    await catalog.close();
  }
}

const runsOf = (site: TestSite, job: string): Promise<Run[]> =>
  inCatalog(site, (catalog) => catalog.runs({ job }));
const daysAgo = (days: number): Date => new Date(Date.now() - days * 86_400_000);
const since = (site: TestSite, ...jobs: string[]): Promise<void> =>
  inCatalog(site, async (catalog) => {
    for (const job of jobs) await catalog.saveRun(runOf(job, daysAgo(3)));
  });

/** A time of the day that has passed, by more than any jitter and less than a day. */
const HOURS_AGO = `0 ${(new Date().getUTCHours() + 21) % 24} * * *`;

describe("systemd", () => {
  test("units are accepted by systemd, changed in place, and taken away; nobody else's are touched", async () => {
    const site = await siteWith([
      'schedule: {full: "0 2 * * *", wal: follow, verify: "0 5 1-7 * mon", cleanup: "*/90 6 * * *"}',
    ]);
    const units = join(site.folder, "units");
    mkdirSync(units);
    writeFileSync(join(units, "jbackup-shop-prod-mine.service"), "# made by hand\n");
    writeFileSync(
      join(units, "jbackup-shop-prod-2-full.timer"),
      "# made by jbackup schedule install for the site shop-prod-2\n",
    );
    const catalog = `catalog: {url: "sqlite:${join(site.folder, "elsewhere/catalog.db")}"}\n`;
    await site.configure(readFileSync(site.configFile, "utf8") + catalog);
    const done = await site.json(["schedule", "install", "systemd", "--dir", units]);
    expect(done.files).toHaveLength(9);
    expect(done.commands.at(-1)).toMatch(/enable --now .*jbackup-shop-prod-wal.service/);
    const files = done.files.map(({ path }: { path: string }) => path);
    const verified = spawnSync("systemd-analyze", ["verify", ...files], { encoding: "utf8" });
    expect(verified.stderr + verified.stdout).toBe("");
    expect(verified.status).toBe(0);
    const service = readFileSync(join(units, "jbackup-shop-prod-full.service"), "utf8");
    for (const line of [
      "NoNewPrivileges=true",
      "ProtectSystem=strict",
      "RestartSec=5min",
      "PrivateTmp=false",
    ])
      expect(service.split("\n")).toContain(line);
    expect(service).toContain(
      `ReadWritePaths=-${site.home} -${join(site.folder, "local")} -${join(site.folder, "elsewhere")} -/tmp`,
    );
    expect(service).not.toContain("ExecReload");
    expect(readFileSync(join(units, "jbackup-shop-prod-wal.service"), "utf8")).toContain(
      "\nExecReload=/bin/kill -HUP $MAINPID\n",
    );
    expect(readFileSync(join(units, "jbackup-shop-prod-full.timer"), "utf8")).toContain("Persistent=true");
    // a condition on the month's day or the week's is two lines
    expect(readFileSync(join(units, "jbackup-shop-prod-verify.timer"), "utf8")).toContain(
      "OnCalendar=*-*-01..07 05:00:00 UTC\nOnCalendar=Mon *-*-* 05:00:00 UTC\n",
    );

    const text = readFileSync(site.configFile, "utf8");
    await site.configure(text.replace(/schedule:.*/, 'schedule: {full: "30 2 * * *"}'));
    const changed = await site.json(["schedule", "install", "systemd", "--dir", units]);
    const actions = Object.fromEntries(
      changed.files.map(({ path, action }: { path: string; action: string }) => [
        path.split("shop-prod-")[1],
        action,
      ]),
    );
    expect(actions).toMatchObject({
      "full.service": "unchanged",
      "full.timer": "written",
      "wal.service": "removed",
      "verify.timer": "removed",
    });
    await site.json(["schedule", "remove", "--dir", units]);
    expect(readdirSync(units).sort()).toEqual([
      "jbackup-shop-prod-2-full.timer",
      "jbackup-shop-prod-mine.service",
    ]);
  });

  test("a unit of the same name that somebody else wrote is not replaced", async () => {
    const site = await siteWith(['schedule: {full: "0 2 * * *"}']);
    writeFileSync(join(site.folder, "jbackup-shop-prod-full.service"), "[Service]\n");
    const ran = await site.run("schedule", "install", "systemd", "--dir", site.folder);
    expect(ran.code).toBe(14);
    expect(ran.stderr).toContain("was not made by this command");
    expect(existsSync(join(site.folder, "jbackup-shop-prod-full.timer"))).toBe(false);
  });
});

describe("cron", () => {
  test("the very line works with nothing of the environment, and other lines keep every byte", async () => {
    const url = server.url("shop");
    const more = ['schedule: {full: "7 2 * * *"}'];
    const site = await makeSite({ url, name: "shop-prod", more, environment: { SHOP_URL: url } });
    sites.push(site);
    await site.configure(readFileSync(site.configFile, "utf8").replace(`"${url}"`, "{env: SHOP_URL}"));
    const mine = "# mine\nMAILTO=ops\n\n5 4 * * * /bin/true  # \u00e9 ";
    const crontab = join(site.folder, "crontab");
    writeFileSync(crontab, mine);
    for (let nth = 0; nth < 2; nth++) await site.json(["schedule", "install", "cron", "--dir", site.folder]);
    const text = readFileSync(crontab, "utf8");
    expect(text.startsWith(`${mine}\n# begin jbackup shop-prod`)).toBe(true);
    const [line = "", ...others] = text.split("\n").filter((one) => one.includes(" backup full "));
    expect(others).toEqual([]);
    expect(line).toMatch(/^7 2 \* \* \* /);
    // as cron does: what stands behind the five fields, to sh
    const command = line.split(" ").slice(5).join(" ").replaceAll("\\%", "%");
    const runLine = () => spawnSync("env", ["-i", "/bin/sh", "-c", command], { encoding: "utf8", cwd: "/" });
    // no shell may stumble over a file that is not there
    expect(runLine()).toMatchObject({ status: 2, stderr: expect.stringContaining("SHOP_URL is not set") });
    writeFileSync(join(site.folder, "jbackup.env"), `OTHER=$(kill $PPID) 'x\nSHOP_URL=${url}\n`);
    const ran = runLine();
    expect([ran.status, ran.stdout, ran.stderr.replace(/^Warning: .*\n/gm, "")]).toEqual([0, "", ""]);
    const [backup] = await site.json(["list"]);
    expect(backup).toMatchObject({ kind: "full", status: "completed" });
    await site.json(["schedule", "remove", "cron", "--dir", site.folder]);
    expect(readFileSync(crontab, "utf8")).toBe(`${mine}\n`);
  });

  test("a follower is refused, with what can keep one running", async () => {
    const site = await siteWith(["schedule: {wal: follow}"]);
    const ran = await site.run("schedule", "install", "cron", "--dir", site.folder);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(
      "Try: use jbackup schedule install systemd, or jbackup schedule run as a service",
    );
  });
});

test("an impossible time is refused when the configuration is read", async () => {
  const site = await siteWith(['schedule: {full: "0 2 30 2 *", wal: sometimes}']);
  const ran = await site.run("schedule", "show");
  expect(ran.code).toBe(2);
  expect(ran.stderr).toContain('schedule.full: "0 2 30 2 *" names a day that never comes');
  expect(ran.stderr).toMatch(/schedule\.wal: expected five cron fields such as "0 2 \* \* \*", or follow/);
});

describe.concurrent("the daemon", () => {
  test("makes up for what was missed, once; is the only one; and ends in time with its jobs", async (context) => {
    const site = await siteWith([`schedule: {full: "${HOURS_AGO}", verify: "${HOURS_AGO}"}`], "missed");
    await since(site, "backup-full", "verify");
    const shown = await site.json(["schedule", "show"]);
    expect(shown.jobs).toMatchObject([
      { name: "full", overdue: true, lastRun: { status: "succeeded" } },
      { name: "verify", overdue: true },
    ]);
    let daemon = await daemonOf(context, site);
    await daemon.until(
      "verify",
      async () =>
        (await runsOf(site, "verify"))[0]?.status === "succeeded" &&
        (await runsOf(site, "verify")).length === 2,
    );
    await daemon.until("rest", async () => (await daemon.health()).jobs.every(({ running }) => !running));
    expect(await daemon.health()).toMatchObject({ code: 200, status: "ok", catalog: "up" });
    expect((await site.json(["schedule", "show"])).daemonRunning).toBe(true);

    const second = await site.run("schedule", "run");
    expect(second.code).toBe(11);
    expect(second.stderr).toContain("another schedule of this site is running (process ");
    expect(await daemon.stop()).toMatchObject({ code: 143 });

    daemon = await daemonOf(context, site);
    await daemon.until("a look at the catalog", async () => (await daemon.health()).catalog === "up");
    await delay(3_000);
    expect(await runsOf(site, "backup-full")).toHaveLength(2);
    expect(await runsOf(site, "verify")).toHaveLength(2);
    expect(
      (await site.json(["schedule", "show"])).jobs.map(({ overdue }: { overdue: boolean }) => overdue),
    ).toEqual([false, false]);
  });

  test("tries a job again whose process was killed; and a stop ends a job that is at work within ten seconds", async (context) => {
    const site = await siteWith(
      [
        `schedule: {full: "${HOURS_AGO}"}`,
        "hooks:",
        `  beforeBackup: ["if [ -e ${server.directory}/hold ]; then sleep 60; fi"]`,
      ],
      "killed",
    );
    await since(site, "backup-full");
    const hold = join(server.directory, "hold");
    writeFileSync(hold, "");
    let daemon = await daemonOf(context, site);
    const pidOf = async (): Promise<number | null> => (await daemon.health()).jobs[0]?.pid ?? null;
    await daemon.until("the hook", async () => (await runsOf(site, "backup-full"))[0]?.status === "running");
    process.kill((await pidOf()) as number, "SIGKILL");
    await daemon.until("its end", () => daemon.log().includes("full: failed after"));
    spawnSync("rm", [hold]);
    await daemon.until("another try", () => /full: done in/.test(daemon.log()));
    expect(daemon.log()).toMatch(/full: failed after .*: it was ended by SIGKILL; again in 1 s/);
    expect(daemon.log()).toContain("full: begins (try 2 of 4)");
    await daemon.stop();

    // the next one has a job to do again, because its last run was cut off
    writeFileSync(hold, "");
    await inCatalog(site, async (catalog) => {
      for (const run of await catalog.runs({ job: "backup-full" }))
        await catalog.saveRun({ ...run, startedAt: daysAgo(3).toISOString() });
    });
    daemon = await daemonOf(context, site);
    await daemon.until(
      "the hook",
      async () => (await pidOf()) !== null && (await runsOf(site, "backup-full"))[0]?.status === "running",
    );
    const pid = (await pidOf()) as number;
    const { code, ms } = await daemon.stop();
    expect(code).toBe(143);
    expect(ms).toBeLessThan(10_000);
    expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    expect((await runsOf(site, "backup-full"))[0]?.status).toBe("interrupted");
    spawnSync("rm", [hold]);
  });

  test("runs on while the catalog is away, and takes one-off runs when it is back", async (context) => {
    const site = await siteWith([`catalog: {url: "${server.url("catalog")}"}`], "away");
    const stored: JobRequest = await site.json([
      "backup",
      "full",
      "--logical",
      "--note",
      "it's late",
      "--at",
      "4s",
    ]);
    expect(stored.args).toEqual(["backup", "full", "--logical", "--note", "it's late"]);
    const dropped: JobRequest = await site.json(["backup", "full", "--at", "1h"]);
    expect((await site.json(["schedule", "show"])).requests).toMatchObject([
      { id: stored.id, status: "waiting" },
      { id: dropped.id, command: "backup full" },
    ]);
    await site.json(["schedule", "cancel", dropped.id.slice(0, 34)]);
    expect((await site.run("schedule", "cancel", dropped.id)).code).toBe(10);
    const daemon = await daemonOf(context, site);
    await query(server.url(), "alter database catalog allow_connections false");
    await query(
      server.url(),
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'catalog'",
    );
    await daemon.until("the catalog's fall", async () => (await daemon.health()).catalog === "down");
    expect((await daemon.health()).code).toBe(200);
    await query(server.url(), "alter database catalog allow_connections true");
    await daemon.until("the one-off run", () => daemon.log().includes("it's late: done"));
    const backups = await site.json(["list"]);
    expect(backups).toMatchObject([{ note: "it's late", status: "completed", method: "logical" }]);
    expect((await site.json(["schedule", "show"])).requests).toEqual([]);
  });

  test("reads a configuration that has changed, and goes on with the old one while it is broken", async (context) => {
    const site = await siteWith(['schedule: {cleanup: "0 6 1 1 *"}'], "changed");
    const daemon = await daemonOf(context, site);
    const readings = (): number => daemon.log().split("was read again").length - 1;
    const first = readFileSync(site.configFile, "utf8");
    const good = first.replace('cleanup: "0 6 1 1 *"', `cleanup: "0 7 1 1 *", verify: "${HOURS_AGO}"`);
    await site.configure(good);
    await daemon.until("the new schedule", () => readings() === 1);
    expect((await daemon.health()).jobs).toMatchObject([
      { name: "verify" },
      { name: "cleanup", cron: "0 7 1 1 *" },
    ]);

    await site.json(["backup", "full", "--logical", "--at", "5s"]);
    await site.configure(`${good}minCopies: 0\n`);
    await daemon.until("the refusal", () => daemon.log().includes("cannot be used, so the schedule goes on"));
    expect(daemon.log()).toMatch(/jbackup\.yaml has an error: line 6: minCopies: must be at least 1/);
    await daemon.until("a run", () => daemon.log().includes("one-off backup full --logical: done"));
    await site.configure(good.replace("site: changed", "site: other"));
    await daemon.until("the refusal", () =>
      daemon.log().includes("is the home of site changed, not of other"),
    );
    await site.configure(good);
    await daemon.until("its return", () => daemon.log().includes("the configuration can be used again"));
    const [alert] = await site.json(["alerts", "--status", "resolved"]);
    expect(alert).toMatchObject({ fingerprint: "schedule:config", occurrences: 2 });

    process.kill(daemon.pid, "SIGHUP");
    await daemon.until("the second reading", () => readings() === 2);
    expect(existsSync(join(site.home, "schedule", "config-in-use.yaml"))).toBe(false);
    // a time that is new counts from now on
    expect(await runsOf(site, "verify")).toEqual([]);
    expect(await daemon.stop()).toMatchObject({ code: 143 });
  });

  test("keeps a follower of the WAL running, whatever becomes of it", async (context) => {
    const site = await siteWith(["schedule: {wal: follow}"], "follow");
    const daemon = await daemonOf(context, site);
    const following = async (): Promise<number | null> => {
      const [run] = await runsOf(site, "backup-wal");
      return run?.status === "running" ? ((await daemon.health()).follower?.pid ?? null) : null;
    };
    await daemon.until("the follower", async () => (await following()) !== null);
    const first = (await following()) as number;
    process.kill(first, "SIGKILL");
    await daemon.until("another one", async () => (await daemon.health()).follower?.restarts === 1);
    expect((await daemon.health()).code).toBe(503);
    await daemon.until(
      "the follower again",
      async () => (await runsOf(site, "backup-wal")).length === 2 && (await following()) !== null,
    );
    expect(await following()).not.toBe(first);
    expect((await daemon.health()).code).toBe(200);
    const shown = await site.json(["schedule", "show"]);
    expect(shown.jobs).toMatchObject([{ name: "wal", cron: "follow", nextRun: null, overdue: false }]);
    // with another configuration it begins anew, and without a line it ends
    await site.configure(`${readFileSync(site.configFile, "utf8")}objectives: {rpo: 1m}\n`);
    await daemon.until("a third follower", async () => (await runsOf(site, "backup-wal")).length === 3);
    expect((await daemon.health()).follower?.restarts).toBe(1);
    await site.configure(readFileSync(site.configFile, "utf8").replace("schedule: {wal: follow}", ""));
    await daemon.until("its end", async () => (await daemon.health()).follower === null);
    expect(await daemon.stop()).toMatchObject({ code: 143 });
    const statuses = (await runsOf(site, "backup-wal")).map(({ status }) => status);
    expect(statuses).toEqual(["succeeded", "succeeded", "interrupted"]);
  });

  test.each([
    ["2026-01-01T00:00:00Z", /--at 2026-01-01T00:00:00Z is in the past: it is .* now/],
    ["2999-01-01 00:00", /--at 2999-01-01 00:00 has no time zone/],
    ["tomorrow", /--at cannot be "tomorrow"/],
  ])("--at %s is refused", async (at, problem) => {
    const ran = await minutely.site.run("backup", "full", "--at", at);
    expect(ran.code).toBe(2);
    expect(ran.stderr).toMatch(problem);
    expect(ran.stderr).toMatch(/^Try: /m);
  });

  test("a bad address for its health is refused, and a taken one is named", async () => {
    expect((await minutely.site.run("schedule", "run", "--health", "9187")).code).toBe(2);
    const taken = await siteWith([]);
    const port = /health: http:\/\/127.0.0.1:(\d+)/.exec(minutely.daemon.log())?.[1];
    const ran = await taken.run("schedule", "run", "--health", `127.0.0.1:${port}`);
    expect(ran.code).toBe(16);
    expect(ran.stderr).toContain("EADDRINUSE");
  });
});

test("schedule run --once makes up for what cron missed, runs what is due, and leaves the rest to the daemon", async () => {
  const site = await siteWith([`schedule: {full: "${HOURS_AGO}", cleanup: "59 23 31 12 *"}`]);
  await since(site, "backup-full");
  await site.json(["backup", "full", "--logical", "--at", "1s"]);
  await delay(1_000);
  const { runs } = await site.json(["schedule", "run", "--once"]);
  expect(runs).toMatchObject([{ command: "backup full --logical", why: "one-off", exitCode: 0 }]);
  expect(await site.json(["schedule", "run", "--once"])).toEqual({ runs: [], leftToOthers: false });
  expect(await minutely.site.json(["schedule", "run", "--once"])).toEqual({ runs: [], leftToOthers: true });
});

test("a row in the catalog alone orders nothing: a one-off run is what somebody with the site's key has signed", async () => {
  const site = await siteWith([]);
  const { id } = await site.json(["backup", "full", "--logical", "--at", "1s"]);
  const catalog = new DatabaseSync(join(site.home, "catalog.db"));
  const changed = catalog.prepare("update job_requests set args = ? where id = ?");
  expect(changed.run(JSON.stringify(["backup", "full", "--note", "another"]), id).changes).toBe(1);
  catalog.exec(
    "insert into job_requests select 'planted', job, args, due_at, status, created_at, created_by, claimed_at, claimed_by, finished_at, exit_code, error, 'null' from job_requests",
  );
  catalog.close();
  await delay(1_000);
  expect((await site.json(["schedule", "run", "--once"])).runs).toEqual([]);
  expect(await site.json(["list"])).toEqual([]);
  expect((await site.json(["schedule", "show"])).requests).toEqual([]);
  const alerts: Alert[] = await site.json(["alerts"]);
  expect(
    alerts
      .filter(({ type }) => type === "SECURITY")
      .map(({ message }) => message)
      .sort(),
  ).toEqual(
    [id, "planted"].map(
      (one) => `the one-off run ${one} in the catalog is not carried out: no trusted signer has signed it`,
    ),
  );
});

test("a job that is due every minute has run every minute", async () => {
  const { site, daemon } = minutely;
  const isDone = async (): Promise<boolean> =>
    (await runsOf(site, "cleanup")).length > 0 &&
    (await daemon.health()).jobs.every(({ running }) => !running);
  await daemon.until("the next minute", isDone, 70_000);
  const minutes = (await runsOf(site, "cleanup")).map(({ startedAt }) => startedAt.slice(0, 16));
  expect(new Set(minutes).size).toBe(minutes.length);
  expect((await runsOf(site, "cleanup")).map(({ status, error }) => error ?? status)).toEqual(
    minutes.map(() => "succeeded"),
  );
  expect((await daemon.stop()).code).toBe(143);
});
