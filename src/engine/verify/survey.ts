import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { Manifest } from "../../domain/manifest.js";
import { parseManifestKey } from "../../domain/reference.js";
import type { ObjectFacts, Storage } from "../../storage/storage.js";
import { opensHere } from "../provedKeys.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";
import { requireStorage } from "../useStorages.js";
import { judgeKeys } from "./judgeKeys.js";
import { type Problem, problemOf } from "./problem.js";
import { believedRecords, type Kept, keeping, type SurveyedBackup, type SurveyedRecord } from "./surveyed.js";

export type { SurveyedBackup } from "./surveyed.js";

export interface Survey {
  storages: Storage[];
  /** Also those that nothing is to be said of. */
  readable: Storage[];
  /** Whose manifests are believed. */
  signers: string[];
  backups: SurveyedBackup[];
  /** What each storage lists, by key. */
  listed: Map<string, Map<string, ObjectFacts>>;
  problems: Problem[];
  /** Objects of backups that no manifest names. */
  unknown: Map<string, ObjectFacts[]>;
}

export interface SurveyWish {
  usable: Storage[];
  lost: Map<string, Error>;
  signers: string[];
  /** Only this backup, and what it needs. */
  only: string | null;
  onlyStorage: string | null;
}

const AT_A_TIME = 8;

/** Lists every storage, reads every manifest in each of them, and compares them with each other and with the catalog. */
export async function surveyStorages(site: Site, wish: SurveyWish): Promise<Survey> {
  if (wish.onlyStorage !== null) requireStorage(site, wish.onlyStorage);
  const problems = unreadable(wish);
  const { listed, storages, unlisted } = await listAll(site, wish);
  problems.push(...unlisted);
  const records = await believedRecords(site, wish.only);
  const keep = keeping();
  const places = placesIn(listed, records);
  const wanted = wish.only === null ? places : await closure(site, storages, places, wish);
  const backups: SurveyedBackup[] = [];
  const waiting = wanted[Symbol.iterator]();
  let done = 0;
  const worker = async (): Promise<void> => {
    for (const place of waiting) {
      site.signal.throwIfAborted();
      const read = await readEverywhere(site, storages, place, recordAt(records, place), wish);
      problems.push(...read.problems);
      if (read.backup !== null) backups.push(keep(read.backup));
      const task = "reading manifests";
      site.report.progress({ task, done: ++done, total: wanted.length, unit: "objects" });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  site.report.progressEnd();
  backups.sort((a, b) => (a.id < b.id ? 1 : -1));
  const unknown = wish.only === null ? unknownIn(listed, backups, places) : new Map();
  const { signers } = wish;
  return {
    storages: chosen(storages, wish),
    readable: storages,
    signers,
    backups,
    listed,
    problems: mine(problems, wish),
    unknown,
  };
}

const chosen = (storages: Storage[], { onlyStorage }: SurveyWish): Storage[] =>
  storages.filter(({ name }) => onlyStorage === null || name === onlyStorage);

const mine = (problems: Problem[], { onlyStorage }: SurveyWish): Problem[] =>
  problems.filter(({ storage }) => onlyStorage === null || storage === onlyStorage);

const storageProblem = (storage: string, error: unknown): Problem => ({
  backupId: null,
  storage,
  path: "",
  problem: `the storage cannot be read: ${reasonOf(error)}`,
  kind: "unreadable",
  sha256: null,
  bytes: null,
});

const unreadable = ({ lost }: SurveyWish): Problem[] =>
  [...lost].map(([storage, error]) => storageProblem(storage, error));

/** A listing that fails half-way is a finding, and the storage is left out: it is never taken for an empty one. */
async function listAll(
  site: Site,
  { usable }: SurveyWish,
): Promise<{ listed: Survey["listed"]; storages: Storage[]; unlisted: Problem[] }> {
  const listed: Survey["listed"] = new Map();
  const unlisted: Problem[] = [];
  await Promise.all(
    usable.map(async (storage) => {
      const found = new Map<string, ObjectFacts>();
      try {
        for (const prefix of ["backups/", "wal/"])
          for await (const facts of storage.list(prefix)) found.set(facts.key, facts);
        listed.set(storage.name, found);
      } catch (error) {
        site.signal.throwIfAborted();
        if (!(error instanceof JBackupError)) throw error;
        unlisted.push(storageProblem(storage.name, error));
      }
    }),
  );
  return { listed, storages: usable.filter(({ name }) => listed.has(name)), unlisted };
}

interface Place {
  id: string;
  folder: string;
  tenantId: string | null;
}

/** By the folder: a manifest that somebody put elsewhere under the same id must not stand in the right one's way. */
function placesIn(listed: Survey["listed"], records: Map<string, SurveyedRecord>): Place[] {
  const places = new Map<string, Place>();
  for (const { id, paths, copies, tenantId } of records.values())
    if (paths[0] !== undefined && copies.some(({ status }) => status !== "removed"))
      places.set(paths[0], { id, folder: paths[0], tenantId });
  for (const found of listed.values())
    for (const key of found.keys()) {
      const place = parseManifestKey(key);
      if (place !== null)
        places.set(place.folder, { id: place.id, folder: place.folder, tenantId: place.tenantId });
    }
  return [...places.values()];
}

const recordAt = (records: Map<string, SurveyedRecord>, { id, folder }: Place): SurveyedRecord | null => {
  const record = records.get(id);
  return record?.paths.includes(folder) ? record : null;
};

/** The backup and the older ones whose objects it refers to. */
async function closure(site: Site, storages: Storage[], places: Place[], wish: SurveyWish): Promise<Place[]> {
  const wanted = places.filter(({ id }) => id === wish.only);
  const needed: Place[] = [];
  for (const place of wanted) {
    const { backup } = await readEverywhere(site, storages, place, null, wish);
    for (const { backupId, folder } of backup?.manifest.body.needs ?? [])
      needed.push({ id: backupId, folder, tenantId: place.tenantId });
  }
  return [...wanted, ...needed];
}

type ReadManifest = { name: string } & ({ manifest: Manifest } | { error: unknown });

interface ReadManifests {
  backup: Kept | null;
  problems: Problem[];
}

/** The right one is the one that the catalog knows, else the one that most of the chain agrees on: the furthest in sequence. */
async function readEverywhere(
  site: Site,
  storages: Storage[],
  place: Place,
  record: SurveyedRecord | null,
  { signers }: SurveyWish,
): Promise<ReadManifests> {
  const path = manifestKey(place.folder);
  const read = await Promise.all(
    storages.map(async (storage): Promise<ReadManifest> => {
      const { name } = storage;
      try {
        const bytes = await site.storage.readAll(storage, path, {
          maxBytes: site.format.MANIFEST_MAX_BYTES,
        });
        const expect = {
          site: site.config.site,
          backupId: place.id,
          tenantId: place.tenantId,
          folder: place.folder,
        };
        return { name, manifest: site.format.readManifest(bytes, { signers, expect }) };
      } catch (error) {
        return { name, error };
      }
    }),
  );
  const good = read.flatMap((one) => ("manifest" in one ? [one] : []));
  const right =
    good.find(({ manifest }) => manifest.digest === record?.checksum) ??
    good.toSorted((a, b) => b.manifest.body.sequence - a.manifest.body.sequence)[0];
  const holders = holdersOf(
    site,
    record,
    good.map(({ name }) => name),
  );
  const same = good.filter(({ manifest }) => manifest.digest === right?.manifest.digest);
  const keys = await judgeKeys(same, ({ manifest }) => opensHere(site, manifest));
  const problems = read.flatMap((one): Problem[] => {
    const where = { backupId: place.id, storage: one.name, path, sha256: null, bytes: null };
    if ("error" in one) {
      const problem = problemOf(one.error, where);
      return problem.kind === "missing" && !holders.includes(one.name) ? [] : [problem];
    }
    const tampered = (problem: string): Problem => ({ ...where, kind: "tampered", problem });
    if (one.manifest.digest !== right?.manifest.digest)
      return [tampered("is another manifest than the one of this backup")];
    return [...keys.wrong].flatMap(([copy, problem]) => (copy === one ? [tampered(problem)] : []));
  });
  const manifest = (keys.right ?? right)?.manifest;
  if (manifest === undefined) return { backup: null, problems };
  const { id, folder } = place;
  const { keysAre, keysDigest } = manifest;
  const rightKeys = keys.right === null ? null : { keysAre, keysDigest };
  return { backup: { id, folder, manifest, keys: rightKeys, record, holders }, problems };
}

/** By the catalog, every storage whose copy was not removed on purpose; without a record, those that have the manifest. */
function holdersOf(site: Site, record: SurveyedRecord | null, having: string[]): string[] {
  if (record === null) return having;
  const configured = site.config.storages.map(({ name }) => name);
  const meant = record.copies.filter(({ status }) => status !== "removed").map(({ storage }) => storage);
  return [...new Set([...meant.filter((name) => configured.includes(name)), ...having])];
}

/** Objects below backups/ that no manifest names, by storage. A manifest is never one: whatever it is, somebody must look at it. */
function unknownIn(listed: Survey["listed"], backups: SurveyedBackup[], places: Place[]): Survey["unknown"] {
  // a manifest that is wrong is a finding of its own, and with it what may be its objects
  const read = new Set(backups.map(({ folder }) => folder));
  const unread = places.filter(({ folder }) => !read.has(folder)).map(({ folder }) => `${folder}/`);
  return new Map(
    [...listed].map(([storage, found]) => {
      const named = namedIn(storage, found, backups);
      return [
        storage,
        [...found.values()].filter(
          ({ key }) =>
            key.startsWith("backups/") &&
            !key.endsWith("/manifest.json") &&
            !named.has(key) &&
            !unread.some((folder) => key.startsWith(folder)),
        ),
      ];
    }),
  );
}

/** What the manifests name that this storage has or should have. A copy that was removed on purpose names nothing there. */
function namedIn(storage: string, found: Map<string, ObjectFacts>, backups: SurveyedBackup[]): Set<string> {
  const named = new Set<string>();
  for (const { folder, body, record, holders } of backups) {
    const isMeant = record === null || holders.includes(storage);
    if (!isMeant && !found.has(manifestKey(folder))) continue;
    named.add(manifestKey(folder));
    for (const part of [{ folder, objects: body.objects }, ...body.needs])
      for (const { name } of part.objects) named.add(`${part.folder}/${name}`);
  }
  return named;
}
