import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { Manifest } from "../domain/manifest.js";
import type { Storage } from "../storage/storage.js";
import { raiseAlert } from "./alert.js";
import { keysChanged, type Place, readManifest } from "./readManifest.js";
import type { Site } from "./site.js";
import { identities } from "./siteKeys.js";

/** Whether keys open what they are of. Unknown: this host holds no private key that they are sealed for. */
export type Opens = "yes" | "no" | "unknown";

type Sealed = Pick<Manifest, "body" | "keys">;

/** Tried with the private keys of this host. */
export async function opensHere(site: Site, { body, keys }: Sealed): Promise<Opens> {
  try {
    await site.format.unwrapDataKey(keys, await identities(site), {
      backupId: body.backupId,
      commitment: body.keyCommitment,
    });
    return "yes";
  } catch (error) {
    if (isJBackupError(error, "no_key")) return "unknown";
    if (isJBackupError(error, "manifest_invalid")) return "no";
    throw error;
  }
}

const spoiltKeys = (id: string): JBackupError =>
  new JBackupError("manifest_invalid", `the manifest of backup ${id} has keys that do not open it`, {
    hint: "Another copy may be sound: `jbackup verify --all --heal` replaces manifests with such keys.",
  });

/** Refuses keys that are surely wrong. Where nothing here can tell, they pass: they may be given to a storage that has none. */
export async function requireUnspoilt(site: Site, manifest: Manifest): Promise<void> {
  const { keysAre, body } = manifest;
  if (keysAre === "signed") return;
  if (keysAre === "changed") throw keysChanged(body.backupId);
  if ((await opensHere(site, manifest)) === "no") throw spoiltKeys(body.backupId);
}

/** The manifest to give to another storage: of the first one whose keys are signed, or at least not known to be wrong. */
export async function manifestToCopy(
  site: Site,
  storages: Storage[],
  place: Place,
  signers: string[],
): Promise<{ manifest: Manifest; bytes: Buffer }> {
  let trouble: JBackupError | undefined;
  for (const storage of storages)
    try {
      const read = await readManifest(site, [storage], place, signers);
      await requireUnspoilt(site, read.manifest);
      return read;
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError)) throw error;
      if (trouble === undefined || isJBackupError(trouble, "not_found")) trouble = error;
    }
  throw trouble ?? new JBackupError("not_found", `no storage holds the manifest of backup ${place.id}`);
}

/** The keys in one storage are not what opens the backup, and another storage's are: either was spoilt, or one was taken out. */
export async function alertSpoiltKeys(
  site: Site,
  { backupId, label }: { backupId: string; label: string },
  bad: string,
  good: string,
): Promise<void> {
  const message = `the keys of backup ${label} in storage ${bad} do not open it, and those in storage ${good} do`;
  site.report.warn(message);
  await raiseAlert(site, {
    type: "SECURITY",
    severity: "critical",
    fingerprint: `manifest:${bad}:${backupId}`,
    message,
    hint: `find out who can write to storage ${bad}, then run jbackup verify ${label} --heal`,
    backupId,
    storage: bad,
  });
}
