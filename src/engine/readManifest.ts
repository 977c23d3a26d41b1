import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import type { Manifest } from "../domain/manifest.js";
import type { Storage } from "../storage/storage.js";
import { raiseAlert } from "./alert.js";
import { manifestKey } from "./replicate.js";
import type { Site } from "./site.js";
import { whyEmptied } from "./storageMarkers.js";

/** Where a backup is, as far as is known before its manifest is read. */
export interface Place {
  folder: string;
  id: string;
  tenantId: string | null;
  /** What people call it, where the catalog knows. */
  label?: string;
  /** The digest that the catalog recorded, if it knows the backup. */
  digest?: string;
  /** The storages that have a copy, as far as the catalog or their own lists tell. */
  holders?: string[];
}

/**
 * The first copy of the manifest that can be believed. One that cannot is an alert: it may be an attack. One whose keys alone
 * were changed is taken where there is no other: what it says of the backup is signed all the same.
 */
export async function readManifest(
  site: Site,
  storages: Storage[],
  place: Place,
  signers: string[],
): Promise<{ manifest: Manifest; bytes: Buffer }> {
  const problems: { storage: string; error: Error }[] = [];
  let lesser: { manifest: Manifest; bytes: Buffer } | undefined;
  for (const storage of storages) {
    try {
      const bytes = await site.storage.readAll(storage, manifestKey(place.folder), {
        maxBytes: site.format.MANIFEST_MAX_BYTES,
      });
      const manifest = site.format.readManifest(bytes, {
        signers,
        expect: {
          site: site.config.site,
          backupId: place.id,
          tenantId: place.tenantId,
          folder: place.folder,
          ...(place.digest === undefined ? {} : { digest: place.digest }),
        },
      });
      if (manifest.keysAre !== "changed") return { manifest, bytes };
      lesser ??= { manifest, bytes };
      await alertTampering(site, storage.name, place, keysChanged(place.id));
    } catch (error) {
      if (!(error instanceof JBackupError)) throw error;
      const isLost = error.code === "object_missing" && place.holders?.includes(storage.name) === true;
      const emptied = isLost ? await whyEmptied(site, storage) : null;
      problems.push({ storage: storage.name, error: emptied ?? error });
      if (error.code.startsWith("manifest_")) await alertTampering(site, storage.name, place, error);
      if (isLost && emptied === null) await alertLostManifest(site, storage.name, place.id);
    }
  }
  if (lesser !== undefined) return lesser;
  const telling = problems.find(({ error }) => !isJBackupError(error, "object_missing"))?.error;
  if (telling) throw telling;
  throw new JBackupError("not_found", `no storage holds the manifest of backup ${place.label ?? place.id}`, {
    hint: "jbackup catalog rebuild brings the catalog in line with the storages",
  });
}

export const keysChanged = (id: string): JBackupError =>
  new JBackupError(
    "manifest_forged",
    `the manifest of backup ${id} has keys that were changed after they were signed`,
    { hint: "Another copy may be sound: `jbackup verify --all --heal` replaces manifests with such keys." },
  );

async function alertTampering(site: Site, storage: string, place: Place, error: Error): Promise<void> {
  site.report.warn(
    `the manifest of ${place.id} in storage ${storage} cannot be believed: ${reasonOf(error)}`,
  );
  await raiseAlert(site, {
    type: "SECURITY",
    severity: "critical",
    fingerprint: `manifest:${storage}:${place.id}`,
    message: `the manifest of backup ${place.id} in storage ${storage} cannot be believed: ${reasonOf(error)}`,
    hint: `find out who can write to storage ${storage}; other copies are used meanwhile`,
    backupId: place.id,
    storage,
  });
}

async function alertLostManifest(site: Site, storage: string, backupId: string): Promise<void> {
  const message = `storage ${storage} has lost the manifest of backup ${backupId}`;
  site.report.warn(message);
  await raiseAlert(site, {
    type: "INTEGRITY_FAILURE",
    severity: "error",
    fingerprint: `bad_copy:${storage}:${backupId}`,
    message,
    hint: `find out who or what deletes in storage ${storage}; other copies are used meanwhile`,
    backupId,
    storage,
  });
}
