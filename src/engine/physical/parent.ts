import { readdir, readFile } from "node:fs/promises";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { Manifest, StoredObject } from "../../domain/manifest.js";
import type { PhysicalFacts } from "../../domain/physical.js";
import type { Storage } from "../../storage/storage.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { openChain } from "../files/chain.js";
import { type FoundBackup, findBackup, findNeeded } from "../findBackup.js";
import { isSealedFor, noteOfRecipients } from "../sealedFor.js";
import type { Site } from "../site.js";
import type { SealingKeys } from "../siteKeys.js";
import { chainFolder, chainPath, type MapReader, mapPath, openMap } from "./mapFile.js";
import { requireWholeParent } from "./parentCopies.js";

/** What the next backup must know of the newest one. It lies beside the map: this host may have no key to open the backup itself. */
export interface ChainState {
  backupId: string;
  /** When the first backup of the chain, the one that stored everything, was made. */
  since: string;
  fingerprintKey: string;
  sources: string[];
  systemId: string;
  timeline: number;
  startLsn: string;
  /** Who opens all of the chain, where that is known. */
  sealedFor?: string[];
  /** What is damaged in blocks that the next backup only refers to is damaged there as well. */
  damagedPages: PhysicalFacts["damagedPages"];
}

export interface Parent {
  state: ChainState;
  manifest: Manifest;
  folder: string;
  map: MapReader;
  /** Storages that lack some of it: a copy of the next backup alone could not be restored there. */
  behind: string[];
  /** Numbers of the damaged pages of a file. */
  damagedIn(path: string): number[];
  /** The id of the backup that a source number of its extents means. */
  sourceId(source: number): string;
  /** Where an object of that backup lies, and what it must be. */
  object(backupId: string, name: string): { folder: string; facts: StoredObject };
}

/** The backup to build on; null, with the reason told, when everything is to be stored anew. */
export async function findParent(
  site: Site,
  wanted: { fresh: boolean; systemId: string; storages: Storage[]; keys: SealingKeys },
): Promise<Parent | null> {
  if (wanted.fresh) return null;
  try {
    const state = (await newestState(site)) ?? (await stateFromStorage(site));
    if (state === null) return null;
    if (state.systemId !== wanted.systemId) return fresh(site, "the last one is of another cluster");
    if (site.clock.now().getTime() - Date.parse(state.since) > site.config.rebaseEveryMs)
      return fresh(site, "rebaseEvery has passed");
    const found = await findBackup(site, state.backupId);
    if (!(await opensForAll(site, state, found, wanted.keys)))
      return fresh(site, "the last one is sealed for other recipients");
    const place = { folder: found.folder, body: found.manifest.body };
    const behind = await requireWholeParent(site, wanted.storages, place);
    return { ...parentOf(state, found, await openMap(site, mapPath(site, state.backupId))), behind };
  } catch (error) {
    site.signal.throwIfAborted();
    if (!isJBackupError(error) || isJBackupError(error, "bug")) throw error;
    return fresh(site, reasonOf(error));
  }
}

/** Whoever opens the next backup must open all that it refers to. */
async function opensForAll(
  site: Site,
  { sealedFor }: ChainState,
  found: FoundBackup,
  keys: SealingKeys,
): Promise<boolean> {
  if (sealedFor?.join() === noteOfRecipients(site, keys).join()) return true;
  // the older ones may have been sealed anew since
  if (!(await isSealedFor(site, found.manifest, keys))) return false;
  for (const need of found.manifest.body.needs ?? [])
    if (!(await isSealedFor(site, (await findNeeded(site, found, need)).manifest, keys))) return false;
  return true;
}

function fresh(site: Site, why: string): null {
  site.report.info(`storing everything anew: ${why}`);
  return null;
}

function parentOf(state: ChainState, found: FoundBackup, map: MapReader): Omit<Parent, "behind"> {
  const { body } = found.manifest;
  const places = new Map(
    [{ backupId: body.backupId, folder: found.folder, objects: body.objects }, ...(body.needs ?? [])].map(
      ({ backupId, folder, objects }) => [
        backupId,
        { folder, objects: new Map(objects.map((object) => [object.name, object])) },
      ],
    ),
  );
  const damaged = new Map<string, number[]>();
  for (const { path, block } of state.damagedPages) damaged.set(path, [...(damaged.get(path) ?? []), block]);
  return {
    state,
    manifest: found.manifest,
    folder: found.folder,
    map,
    damagedIn: (path) => damaged.get(path) ?? [],
    sourceId: (source) => (source === 0 ? state.backupId : (state.sources[source - 1] ?? "")),
    object: (backupId, name) => {
      const place = places.get(backupId);
      const facts = place?.objects.get(name);
      if (place && facts) return { folder: place.folder, facts };
      throw new JBackupError(
        "manifest_invalid",
        `backup ${body.label} refers to ${name} of backup ${backupId}, which its manifest does not list`,
        { hint: "jbackup backup full --fresh begins a new chain" },
      );
    },
  };
}

async function newestState(site: Site): Promise<ChainState | null> {
  let names: string[];
  try {
    names = await readdir(chainFolder(site));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  // ids begin with their time
  const ids = names
    .filter((name) => name.endsWith(".json"))
    .map((name) => name.slice(0, -".json".length))
    .sort();
  for (const id of ids.reverse()) {
    if (!names.includes(`${id}.map`)) continue;
    return parseState(await readFile(chainPath(site, id), "utf8"));
  }
  return null;
}

function parseState(text: string): ChainState {
  try {
    return JSON.parse(text) as ChainState;
  } catch (cause) {
    throw new JBackupError("failed", "what was noted of the last backup is damaged", { cause });
  }
}

/** Another host, or a lost home: with a key at hand the newest backup itself can be asked. */
async function stateFromStorage(site: Site): Promise<ChainState | null> {
  const fulls = await site.catalog.backups({ kind: "full", status: ["completed", "verified"], limit: 20 });
  const newest = fulls.find(({ method }) => method === "physical");
  if (newest === undefined) return null;
  try {
    const chain = await openChain(site, await findBackup(site, newest.id));
    const [since] =
      chain.facts.sources.length === 0 ? [newest.createdAt] : await createdAt(site, chain.facts.sources);
    const state: ChainState = {
      backupId: newest.id,
      since: since ?? newest.createdAt,
      fingerprintKey: chain.facts.fingerprintKey,
      sources: chain.facts.sources,
      systemId: chain.facts.server.systemId,
      timeline: chain.facts.timeline,
      startLsn: chain.facts.startLsn,
      damagedPages: chain.facts.damagedPages,
    };
    await writeFileAtomic(mapPath(site, newest.id), chain.rawMap(), { overwrite: true });
    await saveState(site, state);
    return state;
  } catch (error) {
    if (!isJBackupError(error, "no_key", "secret_unavailable")) throw error;
    site.report.info(
      `storing everything anew: what the last backup holds is not known here (${error.message})`,
    );
    return null;
  }
}

async function createdAt(site: Site, ids: string[]): Promise<string[]> {
  const times = await Promise.all(
    ids.map(async (id) => (await findBackup(site, id)).manifest.body.createdAt),
  );
  return times.sort();
}

export const saveState = (site: Site, state: ChainState): Promise<void> =>
  writeFileAtomic(chainPath(site, state.backupId), `${JSON.stringify(state)}\n`, { overwrite: true });
