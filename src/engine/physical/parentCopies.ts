import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { ManifestBody, StoredObject } from "../../domain/manifest.js";
import type { Storage } from "../../storage/storage.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";

/**
 * What a new backup refers to must be there as safely as the backup itself: every older backup of the chain, with its
 * manifest and every object that is needed, in `minCopies` storages. Answers the storages that lack some of it.
 */
export async function requireWholeParent(
  site: Site,
  storages: Storage[],
  parent: { folder: string; body: ManifestBody },
): Promise<string[]> {
  const { folder, body } = parent;
  const places = [{ folder, objects: body.objects }, ...(body.needs ?? [])];
  const complaints: string[] = [];
  const behind: string[] = [];
  const ids = [body.backupId, ...(body.needs ?? []).map(({ backupId }) => backupId)];
  const damaged = await knownDamage(site, ids);
  for (const storage of storages) {
    const missing = damaged.get(storage.name) ?? (await firstMissing(storage, places));
    if (missing === null) continue;
    complaints.push(`${storage.name} lacks ${missing}`);
    behind.push(storage.name);
  }
  const whole = storages.length - complaints.length;
  if (whole >= site.config.minCopies) return behind;
  const why = complaints.length === 0 ? "" : `: ${complaints.join("; ")}`;
  throw new JBackupError(
    "too_few_copies",
    `the last backup is whole in ${whole} storages only, not in ${site.config.minCopies}${why}`,
  );
}

/** What the last verification found wrong with the chain, by storage. */
async function knownDamage(site: Site, ids: string[]): Promise<Map<string, string>> {
  const damaged = new Map<string, string>();
  try {
    for (const id of ids)
      for (const { label, copies } of await site.catalog.backups({ reference: id, limit: 1 }))
        for (const { storage, status } of copies)
          if (status === "damaged") damaged.set(storage, `a good copy of ${label}`);
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error; // then the listings decide
  }
  return damaged;
}

/** The name of the first object that is not there at its right size; null when all are. */
async function firstMissing(
  storage: Storage,
  places: { folder: string; objects: StoredObject[] }[],
): Promise<string | null> {
  try {
    for (const { folder, objects } of places) {
      const there = new Map<string, number>();
      for await (const { key, bytes } of storage.list(`${folder}/`)) there.set(key, bytes);
      if (!there.has(manifestKey(folder))) return manifestKey(folder);
      const missing = objects.find(({ name, bytes }) => there.get(`${folder}/${name}`) !== bytes);
      if (missing) return `${folder}/${missing.name}`;
    }
    return null;
  } catch (error) {
    if (error instanceof JBackupError) return `any list of what it holds (${error.message})`;
    throw error;
  }
}
