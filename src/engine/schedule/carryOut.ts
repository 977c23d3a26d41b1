import type { TakenWork } from "../../catalog/catalogs.js";
import type { JobRequest } from "../../domain/backup.js";
import { type Decision, ended, isWorthAnotherTry, SCHEDULED, TRIES } from "../../domain/schedule.js";
import type { Site } from "../site.js";
import { type JobEnd, runJob } from "./child.js";
import type { DaemonJob, DaemonState } from "./health.js";
import { noteEnd } from "./noteEnd.js";
import { returnRequest, settleRequest } from "./requests.js";
import { rest } from "./rest.js";
import type { SharedJobs } from "./sharedJobs.js";

const PAUSE_MS = 5 * 60_000;

/** How long a run that failed waits for its next try. */
export const pauseMsOf = ({ environment }: Site): number => environment.retryPauseMs ?? PAUSE_MS;

/** A job whose time has come, on this host alone. */
export async function runDue(
  site: Site,
  entry: DaemonJob,
  { why, slot, attempt }: Decision & { act: "run" },
): Promise<void> {
  const { name } = entry.job;
  const reason = {
    due: "due",
    missed: `missed at ${slot.toISOString()}, made up for now`,
    retry: `try ${attempt} of ${TRIES + 1}`,
  }[why];
  const { words } = SCHEDULED[name];
  site.report.info(`${name}: begins (${reason}): jbackup ${words.join(" ")}`);
  const end = await runJob(site, name, words, (pid) => {
    entry.pid = pid;
  });
  entry.pid = null;
  entry.last = { ...end, at: site.clock.now() };
  await settle(site, entry, end);
}

async function settle(site: Site, entry: DaemonJob, end: JobEnd): Promise<void> {
  const pauseMs = pauseMsOf(site);
  const settled = ended(entry.state, end.exitCode, { monotonicMs: site.clock.monotonicMs(), pauseMs });
  entry.state = settled.state;
  if (site.signal.aborted) return;
  entry.isGivenUp = settled.how === "given-up";
  await noteEnd(site, entry.job.name, end, settled.how, pauseMs);
}

/** A job that this host took from the queue that several share. */
export async function runTaken(
  site: Site,
  entry: DaemonJob,
  shared: SharedJobs,
  taken: TakenWork,
): Promise<void> {
  const { name } = entry.job;
  const tries = taken.attempt === 1 ? "" : `, try ${taken.attempt} of ${TRIES + 1}`;
  site.report.info(`${name}: begins (due at ${taken.data.slot}${tries}, taken by this host)`);
  try {
    const { end, how } = await shared.run(name, taken, (pid) => {
      entry.pid = pid;
    });
    entry.last = { ...end, at: site.clock.now() };
    entry.isGivenUp = how === "given-up";
    if (!site.signal.aborted) await noteEnd(site, name, end, how, pauseMsOf(site));
  } finally {
    entry.pid = null;
    entry.state = { ...entry.state, isRunning: false, attempt: 0 };
  }
}

/** A run that somebody wanted once; it goes back to those that wait when the daemon is stopped. */
export async function runRequest(
  site: Site,
  underWay: DaemonState["requests"],
  request: JobRequest,
): Promise<void> {
  const name = `one-off ${request.args.join(" ")}`;
  underWay.set(request.id, request.args);
  try {
    for (let attempt = 1; ; attempt++) {
      site.report.info(`${name}: begins${attempt === 1 ? "" : ` (try ${attempt} of ${TRIES + 1})`}`);
      const end = await runJob(site, name, request.args);
      if (site.signal.aborted) return await returnRequest(site, request);
      const isLast = attempt > TRIES || !isWorthAnotherTry(end.exitCode);
      if (end.exitCode === 0 || end.exitCode === 3 || isLast) {
        await settleRequest(site, request, end);
        const how = end.exitCode === 0 || end.exitCode === 3 ? "done" : `failed: ${end.error}`;
        site.report.info(`${name}: ${how}`);
        return;
      }
      await rest(site.signal, pauseMsOf(site));
      if (site.signal.aborted) return await returnRequest(site, request);
    }
  } finally {
    underWay.delete(request.id);
  }
}
