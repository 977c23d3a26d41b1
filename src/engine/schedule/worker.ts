import type { JobQueue, TakenWork } from "../../catalog/catalogs.js";
import { isJBackupError, reasonOf } from "../../domain/errors.js";
import type { Site } from "../site.js";
import { backupBatch, type TenantBatch } from "../tenants/batch.js";
import { rest } from "./rest.js";
import { doTaken, requireQueue } from "./shared.js";
import { stamped } from "./stamped.js";

export const TENANTS = "tenants";
const RETRY_PAUSE_MS = 5_000;
const IDLE_MS = 500;
const AWAY_MS = 5_000;

export const openTenantLine = (queue: JobQueue): Promise<void> =>
  queue.open(TENANTS, { retryPauseMs: RETRY_PAUSE_MS, isSingle: false });

/** Takes batches of tenants, one after another, until it is told to stop. As many may work as there are hosts and processors. */
export async function runWorker(opened: Site): Promise<never> {
  const site = { ...opened, report: stamped(opened) };
  const queue = await requireQueue(site, "a worker");
  await openTenantLine(queue);
  site.report.info(`a worker of ${site.config.site} waits for tenants: jbackup backup tenant --all --queue`);
  let isAway = false;
  while (!site.signal.aborted) {
    try {
      const taken = await queue.take(TENANTS);
      if (isAway) site.report.info("the queue is back");
      isAway = false;
      if (taken === null) await rest(site.signal, IDLE_MS);
      else await workOn(site, queue, taken);
    } catch (error) {
      if (!isJBackupError(error, "catalog_unavailable")) throw error;
      if (!isAway) site.report.warn(`${reasonOf(error)}; trying again until it is back`);
      isAway = true;
      await rest(site.signal, AWAY_MS);
    }
  }
  throw site.signal.reason;
}

async function workOn(site: Site, queue: JobQueue, taken: TakenWork): Promise<void> {
  const batch = { ...(taken.data as unknown as TenantBatch), id: taken.id, attempt: taken.attempt };
  const startedMs = site.clock.monotonicMs();
  const done = await doTaken(site, queue, TENANTS, taken, async () => {
    // opened anew for every batch: a storage that could not be reached for the last one may be there again
    const own = await site.reopen();
    try {
      return { ...(await backupBatch(own, batch)) };
    } finally {
      await own.close();
    }
  });
  const seconds = ((site.clock.monotonicMs() - startedMs) / 1000).toFixed(1);
  const what = `${batch.tenants.length} tenants${taken.attempt === 1 ? "" : `, try ${taken.attempt}`}`;
  if (done.ok) site.report.info(`${what}: done in ${seconds} s`);
  else site.report.warn(`${what}: failed after ${seconds} s: ${done.error}`);
}
