import type { Alert, Backup, Verification } from "../domain/backup.js";
import { isJBackupError } from "../domain/errors.js";
import { type Health, healthOf, nextStep } from "../domain/health.js";
import type { StorageUse } from "../domain/storageUse.js";
import { openHole, strayBase } from "../domain/walWindow.js";
import type { Site } from "./site.js";
import { type SeenInStorages, seenInStorages } from "./status/fromStorages.js";
import { type JobStatus, jobFacts, jobsInCatalog, jobsInStorages } from "./status/jobs.js";
import { type RpoStatus, type RtoStatus, rpoStatus, rtoStatus } from "./status/objectives.js";
import { type ProbedServer, type ProbedStorage, probeServer, probeStorages } from "./status/probe.js";
import { firstDay, type StorageStatus, storageFacts, storageStatuses } from "./status/storages.js";
import { pitrWindow, type WindowStatus } from "./status/window.js";

export type { JobStatus } from "./status/jobs.js";
export type { StorageStatus } from "./status/storages.js";
export type { WindowStatus } from "./status/window.js";

export interface SiteStatus {
  site: string;
  host: string;
  at: string;
  health: Health;
  /** The one thing to do now; null where nothing is. */
  next: { command: string; why: string } | null;
  /** Where most of this is from: without a catalog the storages tell a part of it. */
  source: "catalog" | "storages" | "nothing";
  catalog: { location: string; error: string | null; hint: string | null };
  postgres: { error: string | null };
  jobs: JobStatus[];
  /** The newest usable full backup. */
  lastFull: { id: string; label: string; at: string; storedBytes: number } | null;
  storages: StorageStatus[];
  window: WindowStatus | null;
  rpo: RpoStatus;
  rto: RtoStatus;
  testRestoredAt: string | null;
  /** Open ones, the newest first. */
  alerts: Pick<
    Alert,
    "id" | "type" | "severity" | "status" | "message" | "hint" | "createdAt" | "occurrences"
  >[];
}

/** How the site is doing: from the catalog, with a short look at what is alive. Changes nothing, and never waits long. */
export async function siteStatus(opened: Site): Promise<SiteStatus> {
  const site: Site = { ...opened, report: SILENT };
  const [known, probed, server] = await Promise.all([
    askCatalog(site),
    probeStorages(site),
    probeServer(site),
  ]);
  leaveOutOtherHosts(site, known, probed, server);
  takeNewOnes(known, probed);
  const seen = known.isEmpty ? await seenInStorages(site, probed) : null;
  const jobs = seen === null || seen.newest.size === 0 ? known.jobs : jobsInStorages(site, seen.newest);
  const window = await pitrWindow(site, known.fulls, known.passes, probed);
  const storages = storageStatuses(site, probed, known);
  if (seen !== null) addSeen(storages, seen);
  const rpo = rpoStatus(site, { fulls: known.fulls, jobs, window, server });
  const rto = rtoStatus(site, known);
  const health = judge(site, { known, server, jobs, storages, window, rpo, rto, seen });
  const [full] = known.fulls;
  return {
    site: site.config.site,
    host: site.environment.host,
    at: site.clock.now().toISOString(),
    health,
    next: nextStep(health),
    source: !known.isEmpty ? "catalog" : (seen?.newest.size ?? 0) > 0 ? "storages" : "nothing",
    catalog: { location: site.catalog.location, error: known.error, hint: known.hint },
    postgres: { error: server.error },
    jobs,
    lastFull:
      full === undefined
        ? null
        : { id: full.id, label: full.label, at: full.createdAt, storedBytes: full.storedBytes },
    storages,
    window,
    rpo,
    rto,
    testRestoredAt: known.tests[0]?.checkedAt ?? null,
    alerts: known.alerts,
  };
}

const nothing = (): void => undefined;
/** What cannot be read is part of the answer. */
const SILENT: Site["report"] = { info: nothing, warn: nothing, progress: nothing, progressEnd: nothing };

interface Known {
  error: string | null;
  /** What to do about it. */
  hint: string | null;
  /** It knows of no run and no backup: another host's, or a new one. */
  isEmpty: boolean;
  jobs: JobStatus[];
  /** Usable full backups, newest first. */
  fulls: Backup[];
  /** The newest passes over the WAL. */
  passes: Backup[];
  use: StorageUse[];
  verifiedAt: Map<string, string>;
  testRestoredAt: Map<string, string>;
  tests: Verification[];
  drills: Awaited<ReturnType<Site["catalog"]["drills"]>>;
  restores: Awaited<ReturnType<Site["catalog"]["restores"]>>;
  alerts: SiteStatus["alerts"];
}

const NOTHING: Known = {
  error: null,
  hint: null,
  isEmpty: true,
  jobs: [],
  fulls: [],
  passes: [],
  use: [],
  verifiedAt: new Map(),
  testRestoredAt: new Map(),
  tests: [],
  drills: [],
  restores: [],
  alerts: [],
};

/** Only the newest count: each of these is one look into an index, however much the catalog holds. */
async function askCatalog(site: Site): Promise<Known> {
  const { catalog } = site;
  try {
    const fulls = await catalog.backups({
      kind: "full",
      status: ["completed", "verified"],
      limit: MOST_FULLS,
    });
    const jobs = await jobsInCatalog(site);
    const tests = await catalog.verifications({ level: "restore", status: "passed", limit: 20 });
    return {
      error: null,
      hint: null,
      isEmpty: fulls.length === 0 && jobs.every(({ lastRun }) => lastRun === null),
      jobs,
      fulls,
      passes: await catalog.backups({ kind: "wal", status: ["completed"], limit: 1 }),
      use: await catalog.storageUse(firstDay(site)),
      verifiedAt: await lastVerified(site),
      testRestoredAt: lastTested(tests),
      tests,
      drills: await catalog.drills(undefined, 10),
      restores: await catalog.restores({ status: ["completed"], limit: 20 }),
      alerts: (await catalog.alerts({ status: ["active", "acknowledged"], limit: 200 })).map(shownAlert),
    };
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    return { ...NOTHING, error: error.message, hint: error.hint ?? null };
  }
}

const MOST_FULLS = 100;
const REBUILD = "jbackup catalog rebuild";

async function lastVerified(site: Site): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const { name } of site.config.storages) {
    const [last] = await site.catalog.verifications({ storage: name, status: "passed", limit: 1 });
    if (last !== undefined) found.set(name, last.checkedAt);
  }
  return found;
}

/** By the storages that fed each test. */
function lastTested(tests: Verification[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const { storage, metadata, checkedAt } of tests) {
    const fedBy = Array.isArray(metadata.storages) ? metadata.storages : [storage];
    for (const name of fedBy) if (typeof name === "string" && !found.has(name)) found.set(name, checkedAt);
  }
  return found;
}

const shownAlert = (alert: Alert): SiteStatus["alerts"][number] => {
  const { id, type, severity, status, message, hint, createdAt, occurrences } = alert;
  return { id, type, severity, status, message, hint, createdAt, occurrences };
};

/** A disk or a server that only the backing-up host can see says nothing when another one cannot. */
function leaveOutOtherHosts(site: Site, known: Known, probed: ProbedStorage[], server: ProbedServer): void {
  // a drill is made wherever a recovery might be
  const hosts = known.jobs.flatMap(({ name, lastRun }) => (name === "drill" ? [] : (lastRun?.host ?? [])));
  if (hosts.length === 0 || hosts.includes(site.environment.host)) return;
  const local = site.config.storages.filter(({ kind }) => kind === "local").map(({ name }) => name);
  for (const one of probed) if (one.isReachable === false && local.includes(one.name)) one.isReachable = null;
  server.isElsewhere = server.error !== null;
}

/** A storage that never held anything is no trouble yet; one that lost its marker is. */
function takeNewOnes({ error, use }: Known, probed: ProbedStorage[]): void {
  if (error !== null) return;
  for (const one of probed) {
    const known = use.find(({ storage }) => storage === one.name);
    if (!one.isNew || (known !== undefined && known.stored + known.missing + known.damaged > 0)) continue;
    one.isReachable = true;
    one.error = null;
  }
}

function addSeen(storages: StorageStatus[], { fullAt }: SeenInStorages): void {
  const newest = [...fullAt.values()]
    .map(({ id }) => id)
    .sort()
    .at(-1);
  for (const storage of storages) {
    const found = fullAt.get(storage.name);
    storage.lastFullAt = found?.at.toISOString() ?? null;
    storage.hasNewestFull = newest === undefined || storage.reachable !== true ? null : found?.id === newest;
  }
}

function judge(
  site: Site,
  {
    known,
    server,
    jobs,
    storages,
    window,
    rpo,
    rto,
    seen,
  }: {
    known: Known;
    server: ProbedServer;
    jobs: JobStatus[];
    storages: StorageStatus[];
    window: WindowStatus | null;
    rpo: RpoStatus;
    rto: RtoStatus;
    seen: SeenInStorages | null;
  },
): Health {
  const now = site.clock.now();
  const fullAt = known.fulls[0]?.createdAt ?? seen?.newest.get("full")?.toISOString() ?? null;
  const tested = known.tests[0]?.checkedAt ?? null;
  const isWalKept = jobs.some(({ name }) => name === "wal");
  const reading = storages.filter(({ reachable }) => reachable !== false).length;
  return healthOf({
    catalogError: known.error,
    // what is damaged is read back; what is older, or away for a while, is opened
    catalogRemedy: known.hint?.includes(REBUILD) ? REBUILD : "jbackup catalog migrate",
    postgresError: server.isElsewhere ? null : server.error,
    jobs: jobFacts(jobs),
    fullAgeMs: fullAt === null ? null : now.getTime() - Date.parse(fullAt),
    minCopies: seen === null ? site.config.minCopies : Math.min(site.config.minCopies, reading),
    storages: storageFacts(storages, now),
    rpoMs: isWalKept ? rpo.nowMs : null,
    rpoObjectiveMs: rpo.objectiveMs,
    rtoMs: rto.lastMs,
    rtoObjectiveMs: rto.objectiveMs,
    hole: openHole(window?.bases ?? []),
    lost: window?.lost ?? [],
    rival: window?.rival ?? null,
    leftFor: strayBase(window?.bases ?? [])?.timeline ?? null,
    isRecordKnown: !known.isEmpty,
    testRestoreAgeMs: tested === null ? null : now.getTime() - Date.parse(tested),
    alerts: known.alerts,
  });
}
