import type { TakenWork } from "../../catalog/catalogs.js";
import type { JobRequest } from "../../domain/backup.js";
import { isJBackupError, reasonOf } from "../../domain/errors.js";
import {
  type Decision,
  decide,
  ended,
  FOLLOW,
  FOLLOW_WORDS,
  freshState,
  isWorthAnotherTry,
  SCHEDULED,
  stateAfter,
  type TimedJob,
  TRIES,
  timedJobs,
} from "../../domain/schedule.js";
import { deliverAlerts } from "../alerts/deliver.js";
import { watchSchedule } from "../alerts/watch.js";
import { lockOnHost } from "../lock.js";
import type { Site } from "../site.js";
import { type JobEnd, runJob } from "./child.js";
import { type DaemonState, type HealthPlace, serveHealth } from "./health.js";
import { coveredByRecords, jitterOf } from "./jobs.js";
import { jumpOf } from "./jumps.js";
import { noteEnd } from "./noteEnd.js";
import { returnKilledRequests, returnRequest, settleRequest, takeDueRequests } from "./requests.js";
import { rest } from "./rest.js";
import { openSharedJobs, type SharedJobs } from "./sharedJobs.js";
import { stamped } from "./stamped.js";

const PAUSE_MS = 5 * 60_000;
const WATCH_EVERY_MS = 5 * 60_000;
const SHARE_EVERY_MS = 30_000;
const FOLLOWER_PAUSE_MS = { first: 1_000, longest: 60_000 };
const STAND_BY_MS = 10_000;
/** A follower that held for so long did not fail at once. */
const HELD_MS = 60_000;

export interface DaemonWish {
  health: HealthPlace | null;
}

/** Who carries out the schedule: one process here. Another one that tries is refused. */
export const SCHEDULE_LOCK = "schedule";

/** Runs every job when it is due, each in a process of its own, until it is told to stop. */
export async function runDaemon(opened: Site, wish: DaemonWish): Promise<void> {
  const release = await lockOnHost(opened, SCHEDULE_LOCK);
  const site = { ...opened, report: stamped(opened) };
  const daemon = new Daemon(site);
  const stopHealth = wish.health === null ? null : await serveHealth(site, wish.health, daemon.state);
  try {
    await daemon.run();
  } finally {
    await stopHealth?.();
    release();
  }
}

class Daemon {
  readonly state: DaemonState;
  readonly #site: Site;
  readonly #jobs: TimedJob[];
  readonly #atWork = new Set<Promise<void>>();
  #isCaughtUp = false;
  /** Null: not yet known, or nobody to share with. */
  #shared: SharedJobs | null = null;
  #shareAfterMs = 0;
  #watchedMs = 0;

  constructor(site: Site) {
    this.#site = site;
    this.#jobs = timedJobs(site.config.schedule);
    const now = site.clock.now();
    this.state = {
      startedAt: now,
      tickedMs: site.clock.monotonicMs(),
      catalog: "unknown",
      jobs: new Map(
        this.#jobs.map((job) => [
          job.name,
          { job, state: freshState(now.getTime()), last: null, pid: null, isGivenUp: false },
        ]),
      ),
      follower: site.config.schedule.wal === FOLLOW ? { pid: null, restarts: 0, isElsewhere: false } : null,
      requests: new Map(),
      dead: null,
    };
  }

  async run(): Promise<void> {
    const { signal, report, config } = this.#site;
    const what = this.#jobs.map(({ name, text }) => `${name} (${text})`);
    if (this.state.follower !== null) what.unshift("following the WAL");
    report.info(
      `the schedule of ${config.site} runs: ${what.join(", ") || "one-off runs only"}; times are UTC`,
    );
    if (this.state.follower !== null) this.#keep(this.#follow());
    const tick = (): Promise<void> => this.#tick();
    let stop = await this.#site.everyFewSeconds(tick);
    const jumps = jumpOf(this.#site.clock);
    try {
      for (; !signal.aborted; await rest(signal, 1_000)) {
        const jumpMs = jumps();
        if (jumpMs === 0) continue;
        // what waits for a moment of the clock on the wall waits for the wrong one now
        report.warn(
          `the clock was set ${jumpMs > 0 ? "forward" : "back"} by ${Math.round(Math.abs(jumpMs) / 1000)} s`,
        );
        await stop();
        stop = await this.#site.everyFewSeconds(tick);
      }
    } finally {
      await stop();
      await Promise.all(this.#atWork);
    }
    throw signal.reason;
  }

  /** Never fails: what goes wrong is told, and tried again. */
  async #tick(): Promise<void> {
    const site = this.#site;
    if (site.signal.aborted) return;
    this.state.tickedMs = site.clock.monotonicMs();
    try {
      await this.#share();
      await this.#withCatalog(async () => {
        if (!this.#isCaughtUp) await this.#catchUp();
        for (const request of await takeDueRequests(site)) this.#keep(this.#runRequest(request));
      });
      for (const job of this.#jobs) await this.#consider(job);
      await this.#takeShared();
      if (site.clock.monotonicMs() - this.#watchedMs > WATCH_EVERY_MS) await this.#watch();
    } catch (error) {
      if (!site.signal.aborted) site.report.warn(`the schedule: ${reasonOf(error)}`);
    }
  }

  /** Jobs run without the catalog; what only it knows waits until it is back. */
  async #withCatalog(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.state.catalog = "up";
    } catch (error) {
      if (!isJBackupError(error, "catalog_unavailable")) throw error;
      this.state.catalog = "down";
    }
  }

  /** Where hosts share a catalog they share the jobs. Without the queue each does what is due, and the locks decide. */
  async #share(): Promise<void> {
    const { clock, report } = this.#site;
    if (this.#shared !== null || clock.monotonicMs() < this.#shareAfterMs) return;
    this.#shareAfterMs = clock.monotonicMs() + SHARE_EVERY_MS;
    try {
      const names = this.#jobs.map(({ name }) => name);
      this.#shared = await openSharedJobs(this.#site, names, this.#pauseMs);
    } catch (error) {
      if (!isJBackupError(error, "catalog_unavailable")) throw error;
      report.warn(`${reasonOf(error)}; until it can be used, this host shares no jobs with others`);
    }
  }

  /** What should have run while nobody was here: each job once. */
  async #catchUp(): Promise<void> {
    await returnKilledRequests(this.#site);
    const covered = await coveredByRecords(this.#site, this.#jobs);
    for (const [name, entry] of this.state.jobs) {
      const hasBegun = entry.state.isRunning || entry.last !== null;
      if (!hasBegun) entry.state = freshState(covered.get(name) ?? entry.state.coveredMs);
    }
    this.#isCaughtUp = true;
  }

  async #consider(job: TimedJob): Promise<void> {
    const { clock, report } = this.#site;
    const entry = this.#entryOf(job);
    const moment = { now: clock.now(), monotonicMs: clock.monotonicMs() };
    const decision = decide({ cron: job.cron, jitter: jitterOf(this.#site, job) }, entry.state, moment);
    if (decision.act === "run" && (await this.#offered(job, decision.slot))) {
      const covered = stateAfter(entry.state, decision, moment.now);
      const { isRunning, attempt } = entry.state;
      entry.state = { ...covered, isRunning, attempt };
      return;
    }
    // several that were missed follow one another
    if (decision.act === "run" && decision.why === "missed" && job.name !== "wal" && this.#isAnyRunning())
      return;
    entry.state = stateAfter(entry.state, decision, moment.now);
    if (decision.act === "skip")
      report.warn(`${job.name}: still running, so the run of ${decision.slot.toISOString()} is left out`);
    if (decision.act === "run") this.#keep(this.#run(job, decision));
  }

  /** Whether other hosts, and this one, find it in the queue. While that is away each host does what is due, and locks decide. */
  async #offered({ name }: TimedJob, slot: Date): Promise<boolean> {
    if (this.#shared === null) return false;
    try {
      await this.#shared.offer(name, slot);
      return true;
    } catch (error) {
      if (!isJBackupError(error, "catalog_unavailable")) throw error;
      return false;
    }
  }

  async #takeShared(): Promise<void> {
    const shared = this.#shared;
    if (shared === null) return;
    await this.#withCatalog(async () => {
      for (const job of this.#jobs) {
        const entry = this.#entryOf(job);
        if (entry.state.isRunning) continue;
        const taken = await shared.take(job.name);
        if (taken === null) continue;
        entry.state = { ...entry.state, isRunning: true, attempt: taken.attempt };
        this.#keep(this.#runShared(shared, job, taken));
      }
    });
  }

  async #runShared(shared: SharedJobs, job: TimedJob, taken: TakenWork): Promise<void> {
    const { name } = job;
    const site = this.#site;
    const entry = this.#entryOf(job);
    const tries = taken.attempt === 1 ? "" : `, try ${taken.attempt} of ${TRIES + 1}`;
    site.report.info(`${name}: begins (due at ${taken.data.slot}${tries}, taken by this host)`);
    try {
      const { end, how } = await shared.run(name, taken, (pid) => {
        entry.pid = pid;
      });
      entry.last = { ...end, at: site.clock.now() };
      entry.isGivenUp = how === "given-up";
      if (!site.signal.aborted) await noteEnd(site, name, end, how, this.#pauseMs);
    } finally {
      entry.pid = null;
      entry.state = { ...entry.state, isRunning: false, attempt: 0 };
    }
  }

  get #pauseMs(): number {
    return this.#site.environment.retryPauseMs ?? PAUSE_MS;
  }

  #entryOf({ name }: TimedJob) {
    const entry = this.state.jobs.get(name);
    if (entry === undefined) throw new Error(`no job ${name}`);
    return entry;
  }

  #isAnyRunning(): boolean {
    return [...this.state.jobs].some(([name, { state }]) => state.isRunning && name !== "wal");
  }

  async #run(job: TimedJob, { why, slot, attempt }: Decision & { act: "run" }): Promise<void> {
    const { name } = job;
    const { report } = this.#site;
    const reason = {
      due: "due",
      missed: `missed at ${slot.toISOString()}, made up for now`,
      retry: `try ${attempt} of ${TRIES + 1}`,
    }[why];
    const { words } = SCHEDULED[name];
    report.info(`${name}: begins (${reason}): jbackup ${words.join(" ")}`);
    const entry = this.#entryOf(job);
    const end = await runJob(this.#site, name, words, (pid) => {
      entry.pid = pid;
    });
    entry.pid = null;
    entry.last = { ...end, at: this.#site.clock.now() };
    await this.#settle(job, end);
  }

  async #settle(job: TimedJob, end: JobEnd): Promise<void> {
    const site = this.#site;
    const entry = this.#entryOf(job);
    const pauseMs = this.#pauseMs;
    const settled = ended(entry.state, end.exitCode, { monotonicMs: site.clock.monotonicMs(), pauseMs });
    entry.state = settled.state;
    if (site.signal.aborted) return;
    entry.isGivenUp = settled.how === "given-up";
    await noteEnd(site, job.name, end, settled.how, pauseMs);
  }

  async #runRequest(request: JobRequest): Promise<void> {
    const site = this.#site;
    const name = `one-off ${request.args.join(" ")}`;
    this.state.requests.set(request.id, request.args);
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
        await rest(site.signal, this.#pauseMs);
        if (site.signal.aborted) return await returnRequest(site, request);
      }
    } finally {
      this.state.requests.delete(request.id);
    }
  }

  /** The follower of the WAL is begun again whenever it ends, sooner if it held for a while. */
  async #follow(): Promise<void> {
    const site = this.#site;
    const { follower } = this.state;
    let pauseMs = FOLLOWER_PAUSE_MS.first;
    while (follower !== null && !site.signal.aborted) {
      const end = await runJob(site, "wal", FOLLOW_WORDS, (pid) => {
        follower.pid = pid;
      });
      follower.pid = null;
      if (site.signal.aborted) return;
      // the server lets one host follow; this one stands by
      if (end.exitCode === 11) {
        if (!follower.isElsewhere) site.report.info(`wal: ${end.error}; this one stands by`);
        follower.isElsewhere = true;
        await rest(site.signal, STAND_BY_MS);
        continue;
      }
      follower.isElsewhere = false;
      follower.restarts++;
      pauseMs =
        end.durationMs > HELD_MS ? FOLLOWER_PAUSE_MS.first : Math.min(FOLLOWER_PAUSE_MS.longest, pauseMs * 2);
      site.report.warn(
        `wal: the follower ended (${end.error ?? "without a word"}); again in ${pauseMs / 1000} s`,
      );
      await rest(site.signal, pauseMs);
    }
  }

  /** Alerts wait for nobody's run to end. */
  async #watch(): Promise<void> {
    this.#watchedMs = this.#site.clock.monotonicMs();
    await watchSchedule(this.#site);
    await deliverAlerts(this.#site);
    await this.#withCatalog(async () => {
      this.state.dead = (await this.#shared?.dead()) ?? null;
    });
  }

  #keep(work: Promise<void>): void {
    const kept = work
      .catch((error: unknown) => this.#site.report.warn(`the schedule: ${reasonOf(error)}`))
      .finally(() => this.#atWork.delete(kept));
    this.#atWork.add(kept);
  }
}
