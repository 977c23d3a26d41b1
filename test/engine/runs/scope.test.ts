import { afterEach, beforeEach, expect, test } from "vitest";
import type { Run } from "../../../src/domain/backup.js";
import { type ErrorCode, JBackupError } from "../../../src/domain/errors.js";
import { watchSchedule } from "../../../src/engine/alerts/watch.js";
import { onThisHost, type RunWish, withRun } from "../../../src/engine/run.js";
import { lastCounted } from "../../../src/engine/schedule/jobs.js";
import type { Site } from "../../../src/engine/site.js";
import { jobFacts, jobsInCatalog } from "../../../src/engine/status/jobs.js";
import { openTestSite } from "../../support/openedSite.js";
import { makeSite, type TestSite } from "../../support/site.js";

const JOB = "backup-tenant";
const DAY_MS = 86_400_000;

let made: TestSite;
let site: Site;
let pings: string[];

beforeEach(async () => {
  made = await makeSite({
    url: "postgresql://nobody@127.0.0.1:1/shop",
    more: [
      'schedule: {tenant: "0 3 * * 0", verify: "0 5 * * *"}',
      'alerts: {heartbeats: {tenant: {url: "http://beat.example/t"}}}',
    ],
  });
  pings = [];
  const opened = await openTestSite(made);
  site = Object.assign(opened, { ping: async (url: string) => void pings.push(url) });
});
afterEach(async () => {
  await site.close();
  await made.remove();
});

const runOf = (more: Partial<Run>): Run => ({
  id: site.newId(),
  job: JOB,
  status: "succeeded",
  startedAt: new Date(Date.now() - 20 * DAY_MS).toISOString(),
  finishedAt: new Date(Date.now() - 20 * DAY_MS + 1_000).toISOString(),
  host: "elsewhere",
  pid: 1,
  exitCode: null,
  error: null,
  metadata: {},
  ...more,
});

const PART: Pick<RunWish<string>, "scope" | "about"> = { scope: "part", about: "7" };

async function began(work: Work, wish: RunWish<string> = {}): Promise<Run | undefined> {
  await withRun(site, JOB, work, wish).catch(() => undefined);
  const [newest] = await site.catalog.runs({ job: JOB, limit: 1 });
  return newest;
}
type Work = () => Promise<string>;
function fails(code: ErrorCode): Work {
  return () => Promise.reject(new JBackupError(code, "it went wrong"));
}
const succeeds: Work = async () => "done";

test.each([
  ["succeeds", succeeds, "succeeded", "part"],
  ["fails", fails("postgres_failed"), "failed", "part"],
  ["was mistyped", fails("not_found"), "failed", "refused"],
] as const)(
  "a part that %s says nothing of the whole, and is on record all the same",
  async (_, work, status, scope) => {
    const whole = runOf({});
    await site.catalog.saveRun(whole);
    const part = await began(work, PART);
    expect(part).toMatchObject({ status, metadata: { scope, about: "7" } });

    const [job] = await jobsInCatalog(site);
    expect(job).toMatchObject({ name: "tenant", lastRun: { at: whole.startedAt, status: "succeeded" } });
    expect(job?.missedAt).not.toBeNull();
    expect(jobFacts(await jobsInCatalog(site))[0]?.lastFailed).toBeNull();
    expect((await lastCounted(site, "tenant"))?.id).toBe(whole.id);
    await watchSchedule(site);
    const told = await site.catalog.alerts({ fingerprint: `missed:${JOB}`, status: ["active"] });
    expect(told).toHaveLength(1);
    expect(pings).toEqual([]);
  },
);

test("the whole counts, whether it went well or not", async () => {
  await site.catalog.saveRun(runOf({}));
  expect(await began(fails("not_found"))).toMatchObject({ status: "failed", metadata: { scope: "whole" } });
  expect(jobFacts(await jobsInCatalog(site))[0]?.lastFailed).toBe("it went wrong");
  await began(async () => "done");
  const [job] = await jobsInCatalog(site);
  expect(job).toMatchObject({ lastRun: { status: "succeeded" }, missedAt: null });
  expect(pings).toEqual(
    ["http://beat.example/t/start", "http://beat.example/t/fail"].concat([
      "http://beat.example/t/start",
      "http://beat.example/t",
    ]),
  );
});

test("one that was not let in, for another host is at it, is no failure of the job", async () => {
  const whole = runOf({ status: "running", finishedAt: null });
  await site.catalog.saveRun(whole);
  expect(await began(fails("locked"))).toMatchObject({ status: "failed", metadata: { scope: "refused" } });
  const [job] = await jobsInCatalog(site);
  expect(job?.lastRun).toMatchObject({ at: whole.startedAt, status: "running" });
  expect(pings).toEqual(["http://beat.example/t/start"]);
});

test("a part that was killed is told of as that part", async () => {
  const killed = { status: "running" as const, finishedAt: null, host: site.environment.host };
  await site.catalog.saveRun(runOf({ ...killed, metadata: { scope: "part", about: "7" } }));
  await withRun(site, JOB, async (run) => void (await run.settleKilled()), {});
  const open = await site.catalog.alerts({ type: "BACKUP_FAILURE" });
  expect(open.map(({ fingerprint }) => fingerprint)).toEqual([`interrupted:${JOB}:7`]);
});

test("where each host has its own lock, only what was killed on this host is settled", async () => {
  const running = { status: "running" as const, finishedAt: null, job: "verify" };
  const here = runOf({ ...running, host: site.environment.host });
  const there = runOf({ ...running, host: "elsewhere" });
  for (const run of [here, there]) await site.catalog.saveRun(run);
  await withRun(site, "verify", async (run) => void (await run.settleKilled(onThisHost(site))), {});
  const statusOf = async ({ id }: Run) =>
    (await site.catalog.runs({ job: "verify" })).find((run) => run.id === id)?.status;
  expect([await statusOf(here), await statusOf(there)]).toEqual(["interrupted", "running"]);
});

test("what a run notes stands in its record", async () => {
  await withRun(site, JOB, async (run) => run.note({ gone: ["7"] }), {});
  const [run] = await site.catalog.runs({ job: JOB });
  expect(run?.metadata).toEqual({ gone: ["7"], scope: "whole" });
});
