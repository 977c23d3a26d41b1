import { setTimeout as pause } from "node:timers/promises";
import { JBackupError } from "../../domain/errors.js";
import type { PhysicalFacts } from "../../domain/physical.js";
import {
  type RecoveryTarget,
  type TimelineWish,
  targetSettings,
  targetText,
} from "../../domain/recoveryTarget.js";
import type { RestoredCluster, RestoredSettings } from "../../postgres/postgres.js";
import { leastSettings } from "../files/settingsFiles.js";
import type { Site } from "../site.js";
import { feedWal, type WalFeed } from "./walFeed.js";

/** Where the WAL of a recovery comes from. */
export interface WalSource {
  /** The content of a segment or history file; null when the archive surely has none. */
  get(name: string): Promise<readonly Uint8Array[] | null>;
  /** The files from the base to the target, in the order in which they are replayed. */
  files: string[];
  /** The timeline that the server is told to follow. */
  follow: TimelineWish;
}

export interface Recovery {
  facts: PhysicalFacts;
  target: RecoveryTarget;
  wal: WalSource;
  /** Next to the data directory, on its file system. */
  spool: string;
  server: Omit<RestoredSettings, "options" | "superuser" | "signal">;
  options: Record<string, string>;
  /** Opened for writing at the target, or left standing there to be read. At the end of the WAL there is no standing. */
  ending: "promoted" | "paused";
}

export interface Recovered {
  cluster: RestoredCluster;
  replayedLsn: string;
  lastCommitAt: string | null;
}

const LOOK_EVERY_MS = 100;

/** Replays WAL up to the target and makes sure that it was reached. Answers the cluster running, still private. */
export async function recover(site: Site, recovery: Recovery): Promise<Recovered> {
  const { wal, target, facts } = recovery;
  const order = new Map(wal.files.map((name, at) => [name, at]));
  const served = new Set<string>();
  const feed = await feedWal({
    directory: recovery.spool,
    owner: recovery.server.owner,
    get: wal.get,
    after: (name) => {
      const at = order.get(name);
      return at === undefined ? [] : wal.files.slice(at + 1);
    },
    onServed: (name) => {
      served.add(name);
      site.report.progress({
        task: `replaying WAL to ${targetText(target)}`,
        done: (order.get(name) ?? -1) + 1,
        total: wal.files.length,
        unit: "objects",
      });
    },
  });
  let cluster: RestoredCluster | undefined;
  try {
    const { startRestored } = await site.clusters();
    cluster = await startRestored({
      ...recovery.server,
      options: {
        ...leastSettings(facts),
        ...recovery.options,
        ...targetSettings(target, wal.follow),
        restore_command: feed.command,
      },
      superuser: facts.superuser,
      signal: site.signal,
    });
    site.step("replaying");
    const reached = await waitForTarget(site, cluster, target);
    requireServed(target, wal.files, served);
    site.step("target-reached");
    if (recovery.ending === "promoted") {
      if (target.kind !== "latest") await promote(site, cluster);
      await inSession(cluster, (session) => session.run("checkpoint"));
    }
    return { cluster, ...reached };
  } catch (error) {
    await cluster?.stop("immediate");
    site.signal.throwIfAborted();
    throw await explained(error, feed, recovery);
  } finally {
    await feed.stop();
    site.report.progressEnd();
  }
}

type Reached = Omit<Recovered, "cluster">;

async function waitForTarget(site: Site, cluster: RestoredCluster, target: RecoveryTarget): Promise<Reached> {
  for (;;) {
    site.signal.throwIfAborted();
    const state = await cluster.state();
    if (state === "ended")
      throw new JBackupError("postgres_failed", `the recovery stopped: ${await cluster.log()}`, {
        details: { log: await cluster.log(40) },
      });
    const isThere = target.kind === "latest" ? state === "ready" : state === "paused";
    if (isThere) return whereItIs(cluster, target);
    if (state === "ready")
      throw new JBackupError("verification_failed", `the recovery ended before ${targetText(target)}`);
    await pause(LOOK_EVERY_MS);
  }
}

async function whereItIs(cluster: RestoredCluster, target: RecoveryTarget): Promise<Reached> {
  const [row] = await inSession(cluster, (session) =>
    session.rows<{ lsn: string; at: string | null; short: string | null; late: string | null }>(
      `select pg_last_wal_replay_lsn()::text as lsn, pg_last_xact_replay_timestamp()::text as at,
              (pg_last_wal_replay_lsn() < nullif($1, '')::pg_lsn)::text as short,
              (pg_last_xact_replay_timestamp() > nullif($2, '')::timestamptz)::text as late`,
      [target.kind === "lsn" ? target.lsn : "", target.kind === "time" ? target.text : ""],
    ),
  );
  if (row === undefined) throw new JBackupError("bug", "PostgreSQL does not say how far it replayed");
  if (row.short === "true" || row.late === "true")
    throw new JBackupError(
      "verification_failed",
      `the recovery stopped at ${row.lsn} (last commit ${row.at ?? "unknown"}), not at ${targetText(target)}`,
    );
  return { replayedLsn: row.lsn, lastCommitAt: row.at };
}

/** PostgreSQL takes a damaged record for the end of the WAL: then it never asks for what comes behind. */
function requireServed(target: RecoveryTarget, files: string[], served: Set<string>): void {
  if (target.kind !== "latest") return;
  const missed = files.filter((name) => !served.has(name));
  if (missed.length > 0)
    throw new JBackupError(
      "verification_failed",
      `the recovery ended early: it never read ${missed[0]}, ${missed.length} files before the end of the WAL`,
    );
}

async function promote(site: Site, cluster: RestoredCluster): Promise<void> {
  await inSession(cluster, (session) => session.run("select pg_promote(false)"));
  for (;;) {
    site.signal.throwIfAborted();
    const state = await cluster.state();
    if (state === "ready") return;
    if (state === "ended")
      throw new JBackupError(
        "postgres_failed",
        `the server stopped while it was promoted: ${await cluster.log()}`,
      );
    await pause(LOOK_EVERY_MS);
  }
}

async function inSession<Result>(
  cluster: RestoredCluster,
  work: (session: Awaited<ReturnType<RestoredCluster["session"]>>) => Promise<Result>,
): Promise<Result> {
  const session = await cluster.session();
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}

const ENDED_EARLY = /recovery ended before configured recovery target was reached/;

async function explained(error: unknown, feed: WalFeed, { target }: Recovery): Promise<unknown> {
  if (feed.failure !== null) return feed.failure;
  const log = error instanceof JBackupError ? String(error.details?.log ?? "") : "";
  if (!ENDED_EARLY.test(log)) return error;
  return new JBackupError(
    "verification_failed",
    `the WAL that is stored ends before ${targetText(target)}: the cluster was not opened`,
    {
      cause: error,
      hint: "jbackup wal status shows how far each timeline reaches; --timeline follows another one, --to latest goes to the end",
    },
  );
}
