import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, type TestContext, test } from "vitest";
import { openCatalog } from "../../src/catalog/catalogs.js";
import { systemClock } from "../../src/sys/clock.js";
import { query } from "../support/awkward.js";
import { type RunningDaemon, startDaemon } from "../support/daemon.js";
import { runUntil } from "../support/kill.js";
import { useShop } from "../support/shopSite.js";
import type { TestSite } from "../support/site.js";
import { openQuery, SHOP_TENANTS, tenantId } from "../support/tenantShop.js";

const TENANTS = 60;
const shop = useShop({ tenants: TENANTS, rows: 2 });
const WORKER = ["--worker"];

let site: TestSite;
/** Ended with the test, whatever becomes of it: tests that wait for a silent worker run side by side. */
type AtTheEnd = TestContext["onTestFinished"];
async function daemonFor(
  atTheEnd: AtTheEnd,
  ...args: Parameters<typeof startDaemon>
): Promise<RunningDaemon> {
  const started = await startDaemon(...args);
  atTheEnd(async () => {
    await started.stop("SIGKILL").catch(() => undefined);
  });
  return started;
}
const worker = (atTheEnd: AtTheEnd): Promise<RunningDaemon> => daemonFor(atTheEnd, site, {}, WORKER);

interface Listed {
  id: string;
  tenantId: string;
  status: string;
  createdAt: string;
}

/** How often each tenant was backed up since then. */
async function timesSince(since: string): Promise<Map<string, number>> {
  const all: Listed[] = await site.json(["list", "--kind", "tenant", "--since", since, "--limit", "1000"]);
  const times = new Map<string, number>();
  for (const { tenantId: id, status } of all)
    if (status === "completed" || status === "verified") times.set(id, (times.get(id) ?? 0) + 1);
  return times;
}

beforeAll(async () => {
  await query(shop.server.url(), "create database catalog", "create database catalog2");
  site = await shop.siteWith([...SHOP_TENANTS, `catalog: {url: "${shop.server.url("catalog")}"}`]);
  // keys, and the catalog's tables
  await site.json(["backup", "tenant", "--tenant", tenantId(1)]);
});
afterAll(() => site?.remove());

/** The runs of a job, as if they had been three days ago. */
async function backdate(url: string, job: string): Promise<void> {
  const catalog = await openCatalog(url, { clock: systemClock });
  const startedAt = new Date(Date.now() - 3 * 86_400_000).toISOString();
  for (const run of await catalog.runs({ job })) await catalog.saveRun({ ...run, startedAt });
  await catalog.close();
}

test.concurrent("two workers back up every active tenant exactly once, although one is killed in the middle of a batch", async ({
  expect,
  onTestFinished,
}) => {
  const active = TENANTS - Math.floor(TENANTS / 7);
  const since = new Date().toISOString();
  const order = site.start(["backup", "tenant", "--all", "--queue", "--batch", "8", "--json"]);
  // some of its tenants are stored by then, one is half-way, others were not begun
  const killed = await runUntil(site, "tenant-manifest-stored", ["schedule", "run", "--worker"]);
  process.kill(killed.pid, "SIGKILL");
  await killed.ended;
  await worker(onTestFinished);
  const second = await worker(onTestFinished);
  const { code, stdout, stderr } = await order;
  expect(code, stderr).toBe(0);
  const answer = JSON.parse(stdout);
  expect(answer).toMatchObject({
    status: "completed",
    tenants: active,
    batches: Math.ceil(active / 8),
    failed: [],
  });
  expect(answer.backups).toHaveLength(active);
  const times = await timesSince(since);
  expect(times.size).toBe(active);
  expect([...times.values()].every((many) => many === 1)).toBe(true);
  const runs = [...answer.backups].map(({ jobId }: { jobId: string }) => jobId);
  expect(new Set(runs).size).toBeGreaterThanOrEqual(Math.ceil(active / 8));
  // the order is the run of the whole; the batches, also the one that was killed, are parts of it
  const catalog = await openCatalog(shop.server.url("catalog"), { clock: systemClock });
  const whole = await catalog.runs({ job: "backup-tenant", scope: "whole" });
  await catalog.close();
  expect(whole.filter(({ metadata }) => metadata.order === answer.order)).toMatchObject([
    { status: "succeeded", metadata: { gone: {} } },
  ]);
  // what they made is whole
  await site.json(["verify", "--all"]);
  expect((await second.stop()).code).toBe(143);
});

test.concurrent("daemons of two hosts share a job: one runs it, and when that one dies the other does", async ({
  expect,
  onTestFinished,
}) => {
  const hour = (new Date().getUTCHours() + 21) % 24;
  const hold = join(site.folder, "hold");
  const both = await shop.siteWith([
    `catalog: {url: "${shop.server.url("catalog2")}"}`,
    `schedule: {full: "0 ${hour} * * *"}`,
    `hooks: {beforeBackup: ["while [ -e ${hold} ]; do sleep 0.1; done"]}`,
  ]);
  onTestFinished(() => both.remove());
  await both.json(["backup", "full", "--logical"]); // keys
  await backdate(shop.server.url("catalog2"), "backup-full");
  writeFileSync(hold, "");
  const otherHome = join(both.folder, "home2");
  mkdirSync(otherHome, { mode: 0o700 });
  cpSync(join(both.home, "keys"), join(otherHome, "keys"), { recursive: true });
  const daemons = [
    await daemonFor(onTestFinished, both),
    await daemonFor(onTestFinished, both, { JBACKUP_HOME: otherHome }),
  ] as const;
  const atWork = async (): Promise<RunningDaemon[]> => {
    const health = await Promise.all(daemons.map((daemon) => daemon.health()));
    return daemons.filter((_, nth) => health[nth]?.jobs[0]?.running);
  };
  await daemons[0].until("one of them at work", async () => (await atWork()).length === 1);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  const [first] = await atWork();
  expect(await atWork()).toHaveLength(1);
  const [second] = daemons.filter((daemon) => daemon !== first) as [RunningDaemon];
  await first?.stop("SIGKILL");
  rmSync(hold);
  await second.until(
    "the other at work",
    () => second.log().includes("try 2 of 4, taken by this host"),
    60_000,
  );
  await second.until("its end", () => second.log().includes("full: done in"));
  expect(await both.json(["list", "--kind", "full", "--status", "completed"])).toHaveLength(2);
  expect((await second.stop()).code).toBe(143);
});

test("a tenant that is gone when its turn comes is named, and the others of its batch are backed up", async ({
  onTestFinished,
}) => {
  await shop.sql("insert into app.tenants select $1::uuid, 'Brief', 'brief', 'ACTIVE', 'DE'", [
    tenantId(9_001),
  ]);
  const order = site.start(["backup", "tenant", "--all", "--queue", "--batch", "100", "--json"]);
  // before any worker can take it
  const waiting =
    "select count(*)::text as n from jbackup_jobs.job where name = 'test/tenants' and state = 'created'";
  const jobs = await openQuery(shop.server.url("catalog"));
  try {
    while ((await jobs.sql(waiting))[0]?.n === "0") await new Promise((resolve) => setTimeout(resolve, 100));
  } finally {
    await jobs.close();
  }
  await shop.sql("delete from app.tenants where id = $1", [tenantId(9_001)]);
  const runs = await worker(onTestFinished);
  const { code, stdout } = await order;
  const answer = JSON.parse(stdout);
  expect(code).toBe(3);
  expect(answer.failed).toEqual([{ tenantId: tenantId(9_001), error: "it is no tenant any more" }]);
  expect(answer.backups.length).toBeGreaterThan(50);
  await runs.stop();
});

test("without workers an order says so, and Ctrl-C takes it back; a plain backup of all goes on meanwhile", async ({
  onTestFinished,
}) => {
  const order = site.start(["backup", "tenant", "--all", "--queue"]);
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect((await site.json(["backup", "tenant", "--all"])).status).toBe("completed");
  process.kill(order.pid, "SIGINT");
  expect((await order).code).toBe(130);
  const since = new Date().toISOString();
  const idle = await worker(onTestFinished);
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect((await timesSince(since)).size).toBe(0);
  await idle.stop();
});

test.each([
  ["schedule run --worker", "a worker needs a catalog that several hosts can share, and this one is a file"],
  [
    "backup tenant --all --queue",
    "--queue needs a catalog that several hosts can share, and this one is a file",
  ],
])("with a catalog in a file, %s is refused", async (command, problem) => {
  const ran = await shop.site.run(...command.split(" "));
  expect(ran.code).toBe(2);
  expect(ran.stderr).toContain(`Error: ${problem}\nTry: set catalog: {url: `);
});
