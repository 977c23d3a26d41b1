import { JBackupError } from "../../domain/errors.js";
import type { ManifestBody, StoredObject } from "../../domain/manifest.js";
import type { Storage } from "../../storage/storage.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";

/**
 * What a new backup refers to must be there as safely as the backup itself: every older backup of the chain, with its
 * manifest and every object that is needed, in `minCopies` storages.
 */
export async function requireWholeParent(
  site: Site,
  storages: Storage[],
  parent: { folder: string; body: ManifestBody },
): Promise<void> {
  const { folder, body } = parent;
  const places = [{ folder, objects: body.objects }, ...(body.needs ?? [])];
  const complaints: string[] = [];
  for (const storage of storages) {
    const missing = await firstMissing(storage, places);
    if (missing !== null) complaints.push(`${storage.name} lacks ${missing}`);
  }
  const whole = storages.length - complaints.length;
  if (whole >= site.config.minCopies) return;
  const why = complaints.length === 0 ? "" : `: ${complaints.join("; ")}`;
  throw new JBackupError(
    "too_few_copies",
    `the last backup is whole in ${whole} storages only, not in ${site.config.minCopies}${why}`,
  );
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
