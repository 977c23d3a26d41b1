import type { StorageConfig } from "../domain/config.js";
import { JBackupError, reasonOf } from "../domain/errors.js";
import {
  adviceFor,
  mayDestroy,
  type ProbedRights,
  type Provider,
  problemsOf,
  providerOf,
  type StoragePlace,
} from "../domain/rights.js";
import { parseDuration } from "../domain/time.js";
import type { Site } from "./site.js";

export interface HardenedStorage {
  storage: string;
  kind: StorageConfig["kind"];
  provider: Provider;
  hasCleanupCredentials: boolean;
  /** Null when nothing was tried. */
  rights: Omit<ProbedRights, "left"> | null;
  /** Whether whoever has these credentials can make backups unrecoverable; null when not known. */
  mayDestroy: boolean | null;
  problems: string[];
  advice: string[];
  /** Objects of the probe that are still there; cleanup sweeps them when it may. */
  left: string[];
  error: string | null;
}

/** What to set in each storage, without asking any of them. */
export const adviseStorages = (site: Site): HardenedStorage[] =>
  site.config.storages.map((config) => unasked(site, config));

/** What the credentials that make backups can really do, tried in every storage at the same time. */
export async function probeAllRights(site: Site): Promise<HardenedStorage[]> {
  const probed = await Promise.all(site.config.storages.map((config) => probe(site, config)));
  return withoutSafePlace(site, probed);
}

function unasked(site: Site, config: StorageConfig): HardenedStorage {
  const place = placeOf(site, config);
  return {
    storage: config.name,
    kind: config.kind,
    provider: providerOf(place),
    hasCleanupCredentials: place.hasCleanupCredentials,
    rights: null,
    mayDestroy: null,
    problems: [],
    advice: adviceFor(place),
    left: [],
    error: null,
  };
}

const IDLE_MS = 20_000;

async function probe(site: Site, config: StorageConfig): Promise<HardenedStorage> {
  const place = placeOf(site, config);
  const options = { clock: site.clock, idleMs: IDLE_MS };
  try {
    const { left, ...rights } = await site.storage.probeRights(config, options);
    const problems = problemsOf(place, { ...rights, left });
    return {
      ...unasked(site, config),
      rights,
      mayDestroy: mayDestroy({ ...rights, left }),
      // judged when the others are known
      problems: config.kind === "local" ? [] : problems,
      advice: config.kind === "local" || problems.length === 0 ? [] : adviceFor(place),
      left: await removeLeft(site, config, left),
    };
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    return { ...unasked(site, config), error: reasonOf(error) };
  }
}

/** With the credentials that may delete, where there are such. */
async function removeLeft(site: Site, config: StorageConfig, left: string[]): Promise<string[]> {
  if (left.length === 0 || config.kind === "local" || config.cleanup === undefined) return left;
  try {
    return await site.storage.removeProbes({ ...config, ...config.cleanup } as StorageConfig, left, {
      clock: site.clock,
      idleMs: IDLE_MS,
    });
  } catch (error) {
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    site.report.warn(
      `storage ${config.name}: the cleanup credentials did not remove the probe: ${error.message}`,
    );
    return left;
  }
}

/** A local storage can always be removed by whoever has its host: a problem only where nothing else is kept. */
function withoutSafePlace(site: Site, probed: HardenedStorage[]): HardenedStorage[] {
  if (probed.some(({ kind }) => kind !== "local")) return probed;
  const problems = ["every copy is on this host: whoever has it can destroy all of them"];
  const advice = adviseStorages(site).flatMap((one) => one.advice);
  return probed.map((one) => (one.error === null ? { ...one, problems, advice: advice.slice(0, 1) } : one));
}

const DEFAULT_DAYS = 30;
const DAY_MS = 86_400_000;

function placeOf(site: Site, config: StorageConfig): StoragePlace {
  const within = parseDuration(site.config.retention.perStorage[config.name]?.within ?? "") ?? 0;
  const isLocal = config.kind === "local";
  return {
    name: config.name,
    kind: config.kind,
    endpoint: isLocal ? null : (config.endpoint ?? null),
    bucket: isLocal ? null : config.bucket,
    prefix: isLocal ? "" : config.prefix,
    hasCleanupCredentials: !isLocal && config.cleanup !== undefined,
    retentionDays: within >= DAY_MS ? Math.floor(within / DAY_MS) : DEFAULT_DAYS,
  };
}
