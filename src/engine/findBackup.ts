import { type Backup, type Copy, isHeld } from "../domain/backup.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { Manifest, NeededBackup } from "../domain/manifest.js";
import { recordOf } from "../domain/record.js";
import { folderOf, noSuchBackup, parseManifestKey, pickOne } from "../domain/reference.js";
import type { Storage } from "../storage/storage.js";
import {
  isOutOfReach,
  isUnbelieved,
  type Newer,
  newestOutOfReach,
  nothingNewer,
  type PassedOver,
  passedOverText,
} from "./passedOver.js";
import { type Place, readManifest } from "./readManifest.js";
import type { Site } from "./site.js";
import { trustedSigners } from "./siteKeys.js";
import { storagesForReading } from "./useStorages.js";

export interface FoundBackup extends Newer {
  manifest: Manifest;
  folder: string;
  /** Where its objects are looked for, nearest first; those that are not known to have a copy come last. */
  storages: Storage[];
  /** The names of those that should have a copy: a bad or lost object there is a trouble. */
  holders: string[];
}

/** What `latest` is the latest of. */
type LatestKind = "full" | "config";

const USABLE: Backup["status"][] = ["completed", "verified"];
const HOLDING: Copy["status"][] = ["stored", "damaged"];

const placeOf = (backup: Backup): Place => ({
  folder:
    backup.copies[0]?.path ?? folderOf(backup.kind, backup.id, new Date(backup.createdAt), backup.tenantId),
  id: backup.id,
  tenantId: backup.tenantId,
  label: backup.label,
  ...(backup.checksum === null ? {} : { digest: backup.checksum }),
  holders: backup.copies.filter(({ status }) => HOLDING.includes(status)).map(({ storage }) => storage),
});

interface Known {
  place: Place;
  /** Told when there is no manifest either: the record alone says that the backup never got that far. */
  unfinished: JBackupError | null;
}

/** What the catalog answers; null when it cannot be asked. */
async function askCatalog<Answer>(site: Site, question: Promise<Answer>): Promise<Answer | null> {
  try {
    return await question;
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(`the catalog cannot be read (${error.message}); looking into the storages instead`);
    return null;
  }
}

/** The catalog's answer; null when it knows nothing, or cannot be asked. */
async function inCatalog(site: Site, reference: string): Promise<Known | null> {
  const records = await askCatalog(site, site.catalog.backups({ reference, limit: 20 }));
  const found = records === null ? null : pickOne(reference, records);
  if (!found) return null;
  if (found.kind === "wal")
    throw new JBackupError("usage", `${found.label} is a stretch of WAL, not a backup to open by itself`, {
      hint: "it is replayed behind a full backup: jbackup restore --mode pitr --to TIME",
    });
  const state = found.status.replace("_", " ");
  const unfinished = USABLE.includes(found.status)
    ? null
    : new JBackupError("not_found", `backup ${found.label} is ${state}: there is nothing to restore in it`, {
        hint: "choose another one: jbackup list --status completed",
      });
  return { place: placeOf(found), unfinished };
}

/** The ids of all full backups that any storage has a manifest of, newest first. */
export async function idsInStorages(site: Site): Promise<string[]> {
  const { usable } = await storagesForReading(site);
  const ids = new Set<string>();
  for (const storage of usable)
    for await (const { key } of storage.list("backups/full/")) {
      const place = parseManifestKey(key);
      if (place !== null) ids.add(place.id);
    }
  return [...ids].sort().reverse();
}

const isIdPrefix = (reference: string): boolean => /^[0-9a-f][0-9a-f-]{3,35}$/.test(reference);

/** Without the catalog: what the storages themselves hold, newest first, and why some could not tell. */
async function listPlaces(
  site: Site,
  storages: Storage[],
  folder: string,
): Promise<{ newestFirst: Place[]; unlisted: JBackupError[] }> {
  const places = new Map<string, Place>();
  const unlisted: JBackupError[] = [];
  for (const storage of storages) {
    try {
      for await (const { key } of storage.list(folder)) {
        const place = parseManifestKey(key);
        if (place === null) continue;
        const holders = [...(places.get(place.id)?.holders ?? []), storage.name];
        places.set(place.id, { ...place, holders });
      }
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError)) throw error;
      site.report.warn(`what storage ${storage.name} holds is not known: ${error.message}`);
      unlisted.push(error);
    }
  }
  return { newestFirst: [...places.values()].sort((a, b) => (a.id < b.id ? 1 : -1)), unlisted };
}

async function inStorages(site: Site, storages: Storage[], reference: string): Promise<Place> {
  const { newestFirst, unlisted } = await listPlaces(site, storages, "backups/");
  if (newestFirst.length === 0) throw unlisted[0] ?? noSuchBackup(reference);
  const signers = await trustedSigners(site);
  const candidates = newestFirst.filter((place) => !isIdPrefix(reference) || place.id.startsWith(reference));
  const named = [];
  const unreadable: JBackupError[] = [];
  for (const place of candidates.length > 0 ? candidates : newestFirst) {
    try {
      const { manifest } = await readManifest(site, storages, place, signers);
      named.push({ id: place.id, label: manifest.body.label, place });
    } catch (error) {
      // one bad backup must not hide the good ones
      if (!(error instanceof JBackupError)) throw error;
      unreadable.push(error);
    }
  }
  const match = pickOne(reference, named);
  if (match) return match.place;
  throw unreadable[0] ?? unlisted[0] ?? noSuchBackup(reference);
}

/** How many of the newest the catalog is asked for at first: nearly always the first one will do. */
const AT_FIRST = 3;

/** What may be the latest, the newest first: as the catalog has it, and where it has none that will do, as the storages have it. */
async function* latestPlaces(
  site: Site,
  storages: Storage[],
  kind: LatestKind,
  unlisted: JBackupError[],
): AsyncGenerator<Place> {
  const seen = new Set<string>();
  const unseen = ({ id }: { id: string }): boolean => !seen.has(id) && seen.add(id) !== undefined;
  const filter = { kind, status: USABLE };
  const newest = await askCatalog(site, site.catalog.backups({ ...filter, limit: AT_FIRST }));
  for (const backup of (newest ?? []).filter(isHeld)) if (unseen(backup)) yield placeOf(backup);
  if (newest?.length === AT_FIRST) {
    const all = await askCatalog(site, site.catalog.backups(filter));
    for (const backup of (all ?? []).filter(isHeld)) if (unseen(backup)) yield placeOf(backup);
  }
  const listed = await listPlaces(site, storages, `backups/${kind}/`);
  unlisted.push(...listed.unlisted);
  for (const place of listed.newestFirst) if (unseen(place)) yield place;
}

/** Whoever can write to a storage can plant a folder that looks newer than any other, or spoil the newest manifest: the newest one that is believed counts. */
async function findLatest(site: Site, kind: LatestKind): Promise<FoundBackup> {
  const { usable, lost } = await storagesForReading(site);
  const unlisted: JBackupError[] = [];
  const passedOver: PassedOver[] = [];
  let outOfReach: PassedOver | undefined;
  let signers: string[] | undefined;
  for await (const place of latestPlaces(site, usable, kind, unlisted)) {
    signers ??= await trustedSigners(site);
    try {
      const found = await readAt(site, usable, place, signers);
      if (outOfReach !== undefined) throw newestOutOfReach(outOfReach, found.manifest.body.label);
      return { ...found, passedOver, untold: isRecorded(place) ? [] : [...lost.keys()] };
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError) || isOutOfReach(error)) throw error;
      const passed = { id: place.id, error };
      if (isUnbelieved(passed)) {
        site.report.warn(passedOverText(passed));
        passedOver.push(passed);
      } else if (await isStillHeld(site, place)) outOfReach ??= passed;
    }
  }
  if (outOfReach !== undefined) throw newestOutOfReach(outOfReach, null);
  throw passedOver[0]?.error ?? unlisted[0] ?? noSuchBackup("latest", kind);
}

const isRecorded = ({ label }: Place): boolean => label !== undefined;

/** A clean-up may have taken it away since it was looked up. */
async function isStillHeld(site: Site, place: Place): Promise<boolean> {
  if (!isRecorded(place)) return true;
  const records = await askCatalog(site, site.catalog.backups({ reference: place.id, limit: 1 }));
  return records === null || records.some((backup) => USABLE.includes(backup.status) && isHeld(backup));
}

async function readAt(site: Site, usable: Storage[], place: Place, signers: string[]): Promise<FoundBackup> {
  const holders = place.holders ?? [];
  const storages = usable.toSorted(
    (a, b) => Number(holders.includes(b.name)) - Number(holders.includes(a.name)),
  );
  try {
    const { manifest } = await readManifest(site, storages, place, signers);
    return { manifest, folder: place.folder, storages, holders, ...nothingNewer };
  } catch (error) {
    const away = holders.filter((name) => !usable.some((storage) => storage.name === name));
    throw outOfReach(place, away, error);
  }
}

/** Which backup it is, and where it should be. */
function outOfReach({ id, label = id }: Place, away: string[], error: unknown): unknown {
  if (isJBackupError(error, "not_found") && away.length > 0)
    return new JBackupError(
      "storage_unavailable",
      `backup ${label} is in storage ${away.join(" and ")}, which cannot be read now`,
      { cause: error, hint: "jbackup storages check shows what is wrong there" },
    );
  if (!isJBackupError(error, "storage_unavailable", "storage_denied")) return error;
  const { code, message, hint, details = {} } = error;
  return new JBackupError(code, `backup ${label} cannot be read: ${message}`, {
    cause: error,
    hint,
    details,
  });
}

/** From what a person types to a manifest that is believed. Needs no catalog. */
export async function findBackup(
  site: Site,
  reference: string,
  kind: LatestKind = "full",
): Promise<FoundBackup> {
  if (reference === "latest") return findLatest(site, kind);
  const known = await inCatalog(site, reference);
  const { usable } = await storagesForReading(site);
  const place = known?.place ?? (await inStorages(site, usable, reference));
  const signers = await trustedSigners(site);
  try {
    return await readAt(site, usable, place, signers);
  } catch (error) {
    if (known?.unfinished && isJBackupError(error, "not_found")) throw known.unfinished;
    throw error;
  }
}

/** An older backup that this one reads as well, from the same storages. */
export async function findNeeded(
  site: Site,
  newer: FoundBackup,
  { backupId, folder }: NeededBackup,
): Promise<FoundBackup> {
  const { tenantId } = newer.manifest.body;
  const place = { folder, id: backupId, tenantId };
  const { manifest } = await readManifest(site, newer.storages, place, await trustedSigners(site));
  return { ...newer, manifest, folder, ...nothingNewer };
}

/** Why it is not known whether a backup has a manifest: then its record stays as it is. */
const UNKNOWABLE = ["no_key", "secret_unavailable", "storage_unavailable", "storage_denied"] as const;

/**
 * The manifest alone makes a backup. One that was killed after it had been written is complete, whatever its record
 * says: answers the record it should have, or null when no storage holds a manifest of it.
 */
export async function completedAfterAll(site: Site, backup: Backup): Promise<Backup | null> {
  try {
    const signers = await trustedSigners(site);
    const { usable } = await storagesForReading(site, [], "any");
    const { holders: _, ...place } = placeOf(backup);
    let manifest: Manifest | null = null;
    const holding: string[] = [];
    for (const storage of usable) {
      try {
        ({ manifest } = await readManifest(site, [storage], place, signers));
        holding.push(storage.name);
      } catch (error) {
        site.signal.throwIfAborted();
        if (!(error instanceof JBackupError)) throw error;
      }
    }
    if (manifest === null) return null;
    const { body, digest } = manifest;
    const copies = site.config.storages.map(({ name, kind }): Copy => {
      const isHere = holding.includes(name);
      const bytes = isHere ? body.storedBytes : 0;
      const status = isHere ? "stored" : "missing";
      return { storage: name, kind, status, path: place.folder, bytes, verifiedAt: null };
    });
    return recordOf(body, digest, copies);
  } catch (error) {
    if (isJBackupError(error, ...UNKNOWABLE)) return null;
    throw error;
  }
}
