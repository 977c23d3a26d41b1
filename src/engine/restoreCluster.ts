import { rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Restore } from "../domain/backup.js";
import { parseTarget, type RecoveryTarget, type TimelineWish } from "../domain/recoveryTarget.js";
import type { RestorePlan } from "../domain/restorePlan.js";
import type { RestoredCluster, RestoredSettings } from "../postgres/postgres.js";
import { ownMark } from "../sys/processes.js";
import { chooseBase, findPhysical } from "./bases.js";
import { type OpenedChain, openChain } from "./files/chain.js";
import { type DirectoryWish, type InspectedTarget, inspectTarget } from "./files/inspectTarget.js";
import { type LaidOut, layOut } from "./files/layOut.js";
import { leastSettings, writeSettingsFiles } from "./files/settingsFiles.js";
import { type Mark, unmarkTarget } from "./files/target.js";
import { newerTexts, nothingNewer } from "./passedOver.js";
import { checkCluster, startForGood } from "./recovery/checkCluster.js";
import { momentText, type PlannedWal, planWal } from "./recovery/planWal.js";
import { recover } from "./recovery/recover.js";
import {
  binDirectoryFor,
  isPrivateDirectory,
  privateDirectory,
  sizedOptions,
  stopLeftServer,
} from "./recovery/serverFor.js";
import type { Outcome } from "./restore/outcome.js";
import { JOB, recorded } from "./restore/record.js";
import { onThisHost, withRun } from "./run.js";
import type { Site } from "./site.js";

export interface ClusterRequest extends DirectoryWish {
  reference: string;
  /** Null: the cluster as it was at the end of the backup. */
  to: string | null;
  /** Of the WAL to that moment; without it the one that was in force then. */
  timeline?: TimelineWish | undefined;
  /** Leave the server running on it. */
  start: boolean;
  reason: string;
}

interface Prepared {
  request: ClusterRequest;
  chain: OpenedChain;
  target: RecoveryTarget | null;
  inspected: InspectedTarget;
  /** Null when no server is needed. */
  binDirectory: string | null;
  wal: PlannedWal | null;
  plan: RestorePlan;
}

export const planCluster = async (site: Site, request: ClusterRequest): Promise<RestorePlan> =>
  (await prepare(site, request)).plan;

/** Brings a physical backup back as files, at its end or at a moment after it. */
export async function restoreCluster(
  site: Site,
  request: ClusterRequest,
  confirm: (plan: RestorePlan) => Promise<void>,
): Promise<Restore> {
  const { plan } = await prepare(site, request);
  await confirm(plan);
  return withRun(site, JOB, async (run) => {
    await run.settleKilled(onThisHost(site));
    // whatever was true before the confirmation may have changed meanwhile
    const prepared = await prepare(site, request);
    return recorded(
      site,
      run,
      {
        plan: prepared.plan,
        mode: prepared.target === null ? "full" : "pitr",
        reason: request.reason,
        targetTime: prepared.target?.kind === "time" ? prepared.target.at.toISOString() : null,
      },
      (restoreId) => carryOut(site, prepared, restoreId),
    );
  });
}

/** Everything is known, and refused if it must be, before anything is touched. */
async function prepare(site: Site, request: ClusterRequest): Promise<Prepared> {
  const target = request.to === null ? null : parseTarget(request.to, request.timeline);
  const found =
    target === null
      ? await findPhysical(site, request.reference)
      : await chooseBase(site, request.reference, target);
  const chain = await openChain(site, found);
  const needsServer = target !== null || request.start;
  const binDirectory = needsServer ? await binDirectoryFor(site, chain.facts) : null;
  const wal = target === null ? null : await planWal(site, chain.facts, target);
  const inspected = await inspectTarget(request, chain.facts);
  const plan = planOf(request, chain, target, inspected, wal);
  return { request, chain, target, inspected, binDirectory, wal, plan };
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1)} GB`;

function planOf(
  request: ClusterRequest,
  { label, facts, sources }: OpenedChain,
  target: RecoveryTarget | null,
  { isDelta, overwrites, places }: InspectedTarget,
  wal: PlannedWal | null,
): RestorePlan {
  const found = sources[0]?.found;
  const body = found?.manifest.body;
  const spaces = [...places.tablespaces.values()];
  return {
    backupId: body?.backupId ?? "",
    label,
    createdAt: body?.createdAt ?? "",
    mode: target === null ? "full" : "pitr",
    way: isDelta ? "delta" : "directory",
    timeline: wal?.timeline ?? null,
    target: request.directory,
    overwrites: overwrites ? request.directory : null,
    steps: [
      isDelta
        ? `compare ${gigabytes(facts.bytes)} in ${facts.files} files with what is in ${request.directory}, and write what differs`
        : `write ${gigabytes(facts.bytes)} in ${facts.files} files into ${request.directory}`,
      ...(spaces.length === 0 ? [] : [`the tablespaces go to ${spaces.join(", ")}`]),
      ...(target === null || wal === null
        ? []
        : [
            `replay ${wal.files.length} files of WAL up to ${momentText(target, wal)}, on a server that nobody else reaches`,
            "make sure that it was reached, and promote",
          ]),
      request.start ? "start the server" : "leave it stopped: start it with pg_ctl when you are ready",
    ],
    rawBytes: facts.bytes,
    storages: found?.storages.map(({ name }) => name) ?? [],
    warnings: [...newerTexts(found ?? nothingNewer), ...(body?.warnings ?? []), ...(wal?.warnings ?? [])],
  };
}

async function carryOut(site: Site, prepared: Prepared, restoreId: string): Promise<Outcome> {
  const { chain, inspected, request, target, binDirectory } = prepared;
  const { directory } = request;
  const { unprivilegedOwner } = await site.clusters();
  const isRoot = process.getuid?.() === 0;
  // whoever owned the directory before will want to run the server on it
  const before = inspected.state.owner;
  const owner = isRoot
    ? before !== null && before.uid !== 0
      ? before
      : ((await unprivilegedOwner()) ?? null)
    : null;
  const environment = { path: site.environment.path, home: site.environment.home };
  await endLeftover(site, inspected.state.mark, { directory, owner });
  const ownPlace = binDirectory === null ? null : privateDirectory(site);
  const laid = await layOut(site, {
    chain,
    places: inspected.places,
    delta: inspected.isDelta,
    owner,
    mark: {
      backupId: prepared.plan.backupId,
      restoreId,
      process: ownMark(),
      privateDirectory: ownPlace,
      owner,
    },
    finishing: (files, within) =>
      writeSettingsFiles({
        facts: chain.facts,
        directory: within,
        owner,
        isRecovery: target !== null,
        files,
      }),
  }).catch((error: unknown) => {
    site.report.info(`${directory} is half-restored: the same command, given again, goes on with it`);
    throw error;
  });
  site.step("files-restored");
  const metadata: Record<string, unknown> = {
    ...laid,
    timeline: prepared.wal?.timeline ?? chain.facts.timeline,
  };
  if (binDirectory !== null && ownPlace !== null) {
    const server = { dataDirectory: directory, privateDirectory: ownPlace, binDirectory, environment, owner };
    try {
      Object.assign(metadata, await bringUp(site, prepared, server));
    } finally {
      await rm(server.privateDirectory, { recursive: true, force: true });
    }
  }
  await unmarkTarget(directory);
  const warnings = [...(prepared.wal?.warnings ?? []), ...keptText(laid), ...adoptText(request)];
  if (binDirectory !== null && request.start) {
    await startForGood(site, { directory, binDirectory, owner });
  }
  return { tables: [], rowsRestored: 0, warnings, metadata };
}

interface Leftover {
  directory: string;
  owner: { uid: number; gid: number } | null;
}

/** A run that was killed may have left its server running, on files that are about to be written anew. */
async function endLeftover(site: Site, mark: Mark | null, { directory, owner }: Leftover): Promise<void> {
  if (mark === null) return;
  site.report.info(`going on with ${directory}, which a run that was killed left half-restored`);
  if (mark.privateDirectory === null) return; // it had none
  await stopLeftServer(site, directory, owner);
  if (await isPrivateDirectory(site, mark.privateDirectory, owner))
    await rm(mark.privateDirectory, { recursive: true, force: true });
}

/** First alone, to recover and to look at it; nobody reaches the server meanwhile. */
async function bringUp(
  site: Site,
  { chain, target, wal, request }: Prepared,
  server: Omit<RestoredSettings, "options" | "superuser" | "signal">,
): Promise<Record<string, unknown>> {
  const { facts } = chain;
  let cluster: RestoredCluster;
  const metadata: Record<string, unknown> = {};
  if (target !== null && wal !== null) {
    const spool = join(dirname(request.directory), `.${restoredName(request.directory)}-jbackup-wal`);
    const recovered = await recover(site, {
      facts,
      target,
      wal,
      spool,
      server,
      options: sizedOptions(),
      ending: "promoted",
    });
    cluster = recovered.cluster;
    metadata.replayedLsn = recovered.replayedLsn;
    metadata.lastCommitAt = recovered.lastCommitAt;
  } else {
    const { startRestored } = await site.clusters();
    cluster = await startRestored({
      ...server,
      options: { ...sizedOptions(), ...leastSettings(facts) },
      superuser: facts.superuser,
      signal: site.signal,
    });
  }
  try {
    return { ...metadata, ...(await checkCluster(site, cluster)) };
  } finally {
    await cluster.stop("fast");
  }
}

const restoredName = (directory: string): string => directory.slice(directory.lastIndexOf("/") + 1);

const keptText = ({ keptBytes }: LaidOut): string[] =>
  keptBytes === 0 ? [] : [`${gigabytes(keptBytes)} were there already and right`];

const adoptText = ({ directory }: ClusterRequest): string[] => [
  `archiving is off in ${directory}/postgresql.auto.conf, so that it cannot mix with the old cluster's archive: remove those lines when this cluster takes over`,
];
