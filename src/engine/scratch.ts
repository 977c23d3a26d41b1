import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Secret } from "../domain/secret.js";
import type { Postgres, RestoredCluster } from "../postgres/postgres.js";
import { ownMark } from "../sys/processes.js";
import type { OpenedChain } from "./files/chain.js";
import { layOut } from "./files/layOut.js";
import { placesFor } from "./files/places.js";
import { leastSettings, writeSettingsFiles } from "./files/settingsFiles.js";
import { requireRoom, unmarkTarget } from "./files/target.js";
import { type Recovered, type Recovery, recover } from "./recovery/recover.js";
import { sizedOptions } from "./recovery/serverFor.js";
import type { Site } from "./site.js";

export interface ScratchWish {
  chain: OpenedChain;
  binDirectory: string;
  /** A moment after the backup; null: its end. */
  recovery: Pick<Recovery, "target" | "wal" | "ending"> | null;
}

/** A throwaway server on a backup's files, which nobody but us reaches. */
export interface ScratchServer {
  open(database: string): Promise<Postgres>;
  readonly dataDirectory: string;
  readonly owner: { uid: number; gid: number } | null;
  /** How far the WAL was replayed; null where none was. */
  readonly reached: Pick<Recovered, "replayedLsn" | "lastCommitAt"> | null;
  /** How long the files took; what comes behind is the server's part. */
  readonly laidOutMs: number;
  /** Shuts the server down in order; its files stay until the work is over. */
  stop(mode?: "fast" | "immediate"): Promise<void>;
}

export const ELSEWHERE = "set TMPDIR to a directory on another disk";

/** Nothing on it must last, so nothing waits for the disk. */
const THROWAWAY = { fsync: "off", full_page_writes: "off", synchronous_commit: "off" };

/** Brings a backup up, lets the work happen, and removes every trace; what a killed run left goes first. */
export async function withScratchCluster<Result>(
  site: Site,
  { chain, binDirectory, recovery }: ScratchWish,
  work: (scratch: ScratchServer) => Promise<Result>,
): Promise<Result> {
  const { sweepScratchClusters, makeScratchFolder, unprivilegedOwner } = await site.clusters();
  const parent = site.environment.temporaryDirectory;
  const environment = { path: site.environment.path, home: site.environment.home };
  for (const swept of await sweepScratchClusters(parent, environment, site.config.database.binDirectory))
    site.report.info(`removed ${swept}, a scratch cluster of a killed run`);
  await requireRoom(parent, chain.facts.bytes, ELSEWHERE);
  const owner = (await unprivilegedOwner()) ?? null;
  const folder = await makeScratchFolder(parent, owner, () => site.step("scratch-begun"));
  let cluster: RestoredCluster | undefined;
  try {
    site.step("scratch-made");
    const up = await bringUp(site, chain, folder, binDirectory, owner, recovery);
    const running = up.cluster;
    cluster = running;
    site.step("scratch-up");
    return await work({
      open: (database) => openScratch(site, running, chain, binDirectory, database),
      dataDirectory: dataIn(folder),
      owner,
      reached: up.reached,
      laidOutMs: up.laidOutMs,
      stop: (mode = "fast") => running.stop(mode),
    });
  } finally {
    await cluster?.stop("immediate");
    await rm(folder, { recursive: true, force: true });
    site.report.progressEnd();
  }
}

const dataIn = (folder: string): string => join(folder, "data");

interface Up extends Pick<ScratchServer, "reached" | "laidOutMs"> {
  cluster: RestoredCluster;
}

async function bringUp(
  site: Site,
  chain: OpenedChain,
  folder: string,
  binDirectory: string,
  owner: { uid: number; gid: number } | null,
  recovery: ScratchWish["recovery"],
): Promise<Up> {
  const startedAt = site.clock.monotonicMs();
  const directory = dataIn(folder);
  const { facts } = chain;
  const spaces = facts.tablespaces.map(({ oid }) => [oid, join(folder, `space-${oid}`)] as const);
  await layOut(site, {
    chain,
    places: placesFor(directory, new Map(spaces)),
    delta: false,
    owner,
    mark: { backupId: "", restoreId: "", process: ownMark(), privateDirectory: null, owner },
    finishing: (files, within) =>
      writeSettingsFiles({ facts, directory: within, owner, isRecovery: recovery !== null, files }),
    isThrowaway: true,
  });
  await unmarkTarget(directory);
  const laidOutMs = site.clock.monotonicMs() - startedAt;
  const server = {
    dataDirectory: directory,
    privateDirectory: join(folder, "run"),
    binDirectory,
    environment: { path: site.environment.path, home: site.environment.home },
    owner,
  };
  const options = { ...sizedOptions(), ...THROWAWAY };
  if (recovery !== null) {
    const { cluster, ...reached } = await recover(site, {
      facts,
      ...recovery,
      spool: join(folder, "wal"),
      server,
      options,
    });
    return { cluster, reached, laidOutMs };
  }
  const { startRestored } = await site.clusters();
  const cluster = await startRestored({
    ...server,
    options: { ...options, ...leastSettings(facts) },
    superuser: facts.superuser,
    signal: site.signal,
  });
  return { cluster, reached: null, laidOutMs };
}

async function openScratch(
  site: Site,
  cluster: RestoredCluster,
  { facts }: OpenedChain,
  binDirectory: string,
  database: string,
): Promise<Postgres> {
  const { openPostgres } = await site.clusters();
  return openPostgres({
    url: new Secret(cluster.url(database).reveal()),
    user: facts.superuser,
    binDirectory,
    dataDirectory: "auto",
    nowMs: () => site.clock.now().getTime(),
    environment: { path: site.environment.path, home: site.environment.home },
    signal: site.signal,
  });
}
