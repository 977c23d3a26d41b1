import { isJBackupError, reasonOf } from "../../domain/errors.js";
import { decide, FOLLOW, freshState, stateAfter, type TimedJob, timedJobs } from "../../domain/schedule.js";
import { deliverAlerts } from "../alerts/deliver.js";
import { watchSchedule } from "../alerts/watch.js";
import { lockOnHost } from "../lock.js";
import type { Site } from "../site.js";
import { pauseMsOf, runDue, runRequest, runTaken } from "./carryOut.js";
import { ConfigWatch } from "./configWatch.js";
import { keepFollowing } from "./following.js";
import { type DaemonState, type HealthPlace, serveHealth } from "./health.js";
import { coveredByRecords, jitterOf, jobsAfter } from "./jobs.js";
import { jumpOf } from "./jumps.js";
import { returnKilledRequests, takeDueRequests } from "./requests.js";
import { rest } from "./rest.js";
import { openSharedJobs, type SharedJobs } from "./sharedJobs.js";

const WATCH_EVERY_MS = 5 * 60_000;
const SHARE_EVERY_MS = 30_000;

export interface DaemonWish {
  health: HealthPlace | null;
  /** Calls when somebody asks that the configuration is read again. */
  onReload(listener: () => void): void;
}

/** Who carries out the schedule: one process here. Another one that tries is refused. */
export const SCHEDULE_LOCK = "schedule";

/** Runs every job when it is due, each in a process of its own, until it is told to stop. */
export async function runDaemon(opened: Site, wish: DaemonWish): Promise<void> {
  const release = await lockOnHost(opened, SCHEDULE_LOCK);
  const watch = await ConfigWatch.begin(opened);
  const site = watch.onto(opened);
  const daemon = new Daemon(site, watch);
  wish.onReload(() => daemon.reload());
  const stopHealth = wish.health === null ? null : await serveHealth(site, wish.health, daemon.state);
  try {
    await daemon.run();
  } finally {
    await stopHealth?.();
    await watch.end();
    release();
  }
}

/** Decides again and again what is to begin, and knows what is under way; carryOut.ts and following.ts beside it do it. */
class Daemon {
  readonly state: DaemonState;
  readonly #configFile: ConfigWatch;
  #site: Site;
  #jobs: TimedJob[];
  readonly #atWork = new Set<Promise<void>>();
  #isCaughtUp = false;
  #isReloadAsked = false;
  /** Null: not yet known, or nobody to share with. */
  #shared: SharedJobs | null = null;
  #shareAfterMs = 0;
  #watchedMs = 0;
  #stopFollowing: () => Promise<void> = async () => undefined;

  constructor(site: Site, watch: ConfigWatch) {
    this.#site = site;
    this.#configFile = watch;
    this.#jobs = timedJobs(site.config.schedule);
    this.state = {
      startedAt: site.clock.now(),
      tickedMs: site.clock.monotonicMs(),
      catalog: "unknown",
      jobs: jobsAfter(new Map(), this.#jobs, site.clock.now()),
      follower: null,
      requests: new Map(),
      dead: null,
    };
  }

  /** Reads the configuration again, with the next look at the jobs. */
  reload(): void {
    this.#isReloadAsked = true;
  }

  async run(): Promise<void> {
    const { signal, report } = this.#site;
    this.#startFollowing();
    this.#tellSchedule("runs");
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
      await this.#stopFollowing();
      await Promise.all(this.#atWork);
      await this.#site.close();
    }
    throw signal.reason;
  }

  #tellSchedule(does: string): void {
    const { report, config } = this.#site;
    const what = this.#jobs.map(({ name, text }) => `${name} (${text})`);
    if (this.state.follower !== null) what.unshift("following the WAL");
    report.info(
      `the schedule of ${config.site} ${does}: ${what.join(", ") || "one-off runs only"}; times are UTC`,
    );
  }

  /** Never fails: what goes wrong is told, and tried again. */
  async #tick(): Promise<void> {
    const site = this.#site;
    if (site.signal.aborted) return;
    this.state.tickedMs = site.clock.monotonicMs();
    try {
      await this.#lookAtConfig();
      await this.#share();
      await this.#withCatalog(async () => {
        if (!this.#isCaughtUp) await this.#catchUp();
        for (const request of await takeDueRequests(site))
          this.#keep(runRequest(site, this.state.requests, request));
      });
      for (const job of this.#jobs) await this.#consider(job);
      await this.#takeShared();
      if (site.clock.monotonicMs() - this.#watchedMs > WATCH_EVERY_MS) await this.#watch();
    } catch (error) {
      if (!site.signal.aborted) site.report.warn(`the schedule: ${reasonOf(error)}`);
    }
  }

  async #lookAtConfig(): Promise<void> {
    const isAsked = this.#isReloadAsked;
    this.#isReloadAsked = false;
    const fresh = await this.#configFile.look(this.#site, isAsked);
    if (fresh !== null) await this.#goOnWith(this.#configFile.onto(fresh));
  }

  /** What is at work ends as it began; all that begins from now on goes by the new configuration. */
  async #goOnWith(fresh: Site): Promise<void> {
    const before = this.#site;
    await this.#stopFollowing();
    this.#site = fresh;
    this.#jobs = timedJobs(fresh.config.schedule);
    this.state.jobs = jobsAfter(this.state.jobs, this.#jobs, fresh.clock.now());
    this.#shared = null;
    this.#shareAfterMs = 0;
    this.#startFollowing();
    this.#tellSchedule("was read again");
    this.#keep(Promise.all([...this.#atWork]).then(() => before.close()));
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
      this.#shared = await openSharedJobs(this.#site, names, pauseMsOf(this.#site));
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
    if (decision.act === "run") this.#keep(runDue(this.#site, entry, decision));
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
        this.#keep(runTaken(this.#site, entry, shared, taken));
      }
    });
  }

  #entryOf({ name }: TimedJob) {
    const entry = this.state.jobs.get(name);
    if (entry === undefined) throw new Error(`no job ${name}`);
    return entry;
  }

  #isAnyRunning(): boolean {
    return [...this.state.jobs].some(([name, { state }]) => state.isRunning && name !== "wal");
  }

  #startFollowing(): void {
    if (this.#site.config.schedule.wal !== FOLLOW) {
      this.state.follower = null;
      return;
    }
    this.state.follower ??= { pid: null, restarts: 0, isElsewhere: false };
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#site.signal, stop.signal]);
    const following = keepFollowing(this.#site, this.state.follower, signal).catch((error: unknown) =>
      this.#site.report.warn(`the schedule: ${reasonOf(error)}`),
    );
    this.#stopFollowing = () => {
      stop.abort();
      return following;
    };
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
