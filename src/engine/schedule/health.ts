import { createServer, type Server } from "node:http";
import { nextRun } from "../../domain/cron.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { JobState, ScheduledName, TimedJob } from "../../domain/schedule.js";
import type { Site } from "../site.js";
import type { JobEnd } from "./child.js";
import type { FollowerState } from "./follower.js";

export interface HealthPlace {
  host: string;
  port: number;
}

export interface DaemonJob {
  job: TimedJob;
  state: JobState;
  last: (JobEnd & { at: Date }) | null;
  pid: number | null;
  isGivenUp: boolean;
}

/** What the daemon knows of itself. */
export interface DaemonState {
  startedAt: Date;
  /** When it last looked at its jobs, by a clock that never jumps. */
  tickedMs: number;
  catalog: "up" | "down" | "unknown";
  jobs: Map<ScheduledName, DaemonJob>;
  follower: FollowerState | null;
  requests: Map<string, string[]>;
  /** Shared work that was tried in vain and laid aside, within two weeks; null where nothing is shared. */
  dead: number | null;
}

/** The daemon looks at its jobs every two seconds. */
const STALLED_MS = 60_000;

/** Answers GET / and /health: 200 while all is well, 503 when a job was given up, the follower is away or the daemon stalls. */
export async function serveHealth(
  site: Site,
  { host, port }: HealthPlace,
  state: DaemonState,
): Promise<() => Promise<void>> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "").split("?")[0];
    if (request.method !== "GET" || (path !== "/" && path !== "/health")) {
      response.writeHead(404, { "content-type": "text/plain" }).end("GET /health\n");
      return;
    }
    const health = healthOf(site, state);
    response.writeHead(health.status === "ok" ? 200 : 503, {
      "content-type": "application/json",
      "cache-control": "no-store",
    });
    response.end(`${JSON.stringify(health)}\n`);
  });
  await listening(server, host, port);
  site.report.info(`health: http://${host.includes(":") ? `[${host}]` : host}:${portOf(server)}/health`);
  return async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
}

const portOf = (server: Server): number => {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
};

async function listening(server: Server, host: string, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    throw new JBackupError("environment", `cannot listen at ${host}:${port}: ${reasonOf(error)}`, {
      hint: "give --health another HOST:PORT, one of this machine that is free",
      cause: error,
    });
  }
}

export function healthOf({ config, clock }: Pick<Site, "config" | "clock">, state: DaemonState) {
  const now = clock.now();
  const isStalled = clock.monotonicMs() - state.tickedMs > STALLED_MS;
  const jobs = [...state.jobs.values()].map(({ job, state: at, last, pid, isGivenUp }) => ({
    name: job.name,
    cron: job.text,
    nextRun: nextRun(job.cron, now).toISOString(),
    running: at.isRunning,
    pid,
    attempt: at.attempt,
    lastEndedAt: last?.at.toISOString() ?? null,
    lastExitCode: last?.exitCode ?? null,
    givenUp: isGivenUp,
  }));
  const problems = [
    ...(isStalled ? ["the daemon stands still"] : []),
    ...jobs.filter(({ givenUp }) => givenUp).map(({ name }) => `${name} failed and was given up`),
    ...(state.follower !== null && state.follower.pid === null && !state.follower.isElsewhere
      ? ["the WAL is not being followed"]
      : []),
  ];
  return {
    status: problems.length === 0 ? "ok" : "failing",
    problems,
    site: config.site,
    startedAt: state.startedAt.toISOString(),
    catalog: state.catalog,
    jobs,
    follower: state.follower,
    dead: state.dead,
    requests: [...state.requests.values()].map((args) => args.join(" ")),
  };
}
