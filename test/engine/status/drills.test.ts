import { afterEach, beforeEach, expect, test } from "vitest";
import type { Drill } from "../../../src/domain/backup.js";
import { watchDrills } from "../../../src/engine/alerts/drills.js";
import type { Site } from "../../../src/engine/site.js";
import { jobFacts, jobsInCatalog } from "../../../src/engine/status/jobs.js";
import { backupNumber } from "../../contract/catalogRecords.js";
import { openTestSite } from "../../support/openedSite.js";
import { makeSite, type TestSite } from "../../support/site.js";

const DAY_MS = 86_400_000;
const ago = (days: number): string => new Date(Date.now() - days * DAY_MS).toISOString();
const dayOf = (at: string | null | undefined): number | null =>
  at ? Math.round((Date.parse(at) - Date.now()) / DAY_MS) : null;

let made: TestSite;
let site: Site;

async function open(more: string[] = []): Promise<void> {
  made = await makeSite({ url: "postgresql://nobody@127.0.0.1:1/shop", more });
  site = await openTestSite(made);
}
beforeEach(() => open());
afterEach(async () => {
  await site.close();
  await made.remove();
});

const drill = (days: number, more: Partial<Drill> = {}): Drill => ({
  id: site.newId(),
  runbook: "server-lost",
  drill: true,
  status: "succeeded",
  startedAt: ago(days),
  finishedAt: ago(days),
  rtoMs: 60_000,
  rpoMs: 0,
  steps: [],
  initiatedBy: "ops@drillhost",
  metadata: {},
  ...more,
});
const shown = async () => (await jobsInCatalog(site)).find(({ name }) => name === "drill");
const overdueAlerts = async (): Promise<number> => {
  await watchDrills(site);
  return (await site.catalog.alerts({ fingerprint: "drill:overdue", status: ["active"] })).length;
};

test("where nothing is stored there is nothing to practise", async () => {
  expect(await shown()).toBeUndefined();
});

test("a site that never practised is in time for as long as the objective gives, then overdue", async () => {
  await site.catalog.saveBackups([backupNumber(1, { createdAt: ago(5) })]);
  const young = await shown();
  expect([dayOf(young?.nextAt), young?.lastRun, young?.missedAt]).toEqual([30, null, null]);
  expect(await overdueAlerts()).toBe(0);
  await site.catalog.saveBackups([backupNumber(2, { createdAt: ago(50) })]);
  expect(dayOf((await shown())?.missedAt)).toBe(-15);
  expect(await overdueAlerts()).toBe(1);
  await site.catalog.saveDrill(drill(1));
  expect(await shown()).toMatchObject({
    missedAt: null,
    lastRun: { status: "succeeded", host: "drillhost" },
  });
  expect(dayOf((await shown())?.nextAt)).toBe(34);
  expect(await overdueAlerts()).toBe(0);
});

test("the last drill is told with its step that failed, and the last good one with its age", async () => {
  await site.catalog.saveDrill(drill(40));
  const steps = [
    { name: "find-backup", status: "succeeded" },
    { name: "bring-up", status: "failed" },
  ];
  await site.catalog.saveDrill(drill(2, { status: "failed", steps }));
  await site.catalog.saveDrill(drill(1, { drill: false, status: "succeeded" })); // in earnest: no drill
  const job = await shown();
  expect(job?.lastRun).toMatchObject({ status: "failed", error: "server-lost stopped at bring-up" });
  expect([dayOf(job?.lastGoodAt), dayOf(job?.missedAt)]).toEqual([-40, -5]);
  expect(jobFacts([job as NonNullable<typeof job>])).toEqual([
    {
      name: "drill",
      command: "jbackup dr run server-lost --drill",
      lastFailed: "server-lost stopped at bring-up",
      missedAt: job?.missedAt,
    },
  ]);
});

test("a schedule of drills is told like any other", async () => {
  await site.close();
  await made.remove();
  await open(['schedule: {drill: "0 7 1 * *"}', "objectives: {drillEvery: 100d}"]);
  expect(await shown()).toMatchObject({ schedule: "0 7 1 * *", lastRun: null, missedAt: null });
  await site.catalog.saveDrill(drill(70));
  const job = await shown();
  expect(job?.nextAt).toMatch(/-01T07:00:00.000Z$/);
  expect(job?.missedAt).toMatch(/-01T07:00:00.000Z$/);
});
