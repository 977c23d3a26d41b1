import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import type { Manifest, WrappedKey } from "../domain/manifest.js";
import { parseManifestKey } from "../domain/reference.js";
import type { Secret } from "../domain/secret.js";
import { parseEpochKey } from "../domain/wal.js";
import type { Recipient } from "../format/format.js";
import type { Storage } from "../storage/storage.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { recordAudit } from "./audit.js";
import { findBackup, findNeeded } from "./findBackup.js";
import { openDataKey } from "./openBackup.js";
import { nothingNewer } from "./passedOver.js";
import { readManifest } from "./readManifest.js";
import { type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";
import { identities, recipientName, recipientsOf, sealingKeys, trustedSigners } from "./siteKeys.js";
import { storagesForReading } from "./useStorages.js";
import { walKeys } from "./wal/sealedWal.js";

export interface ListedKeys {
  recipients: { recipient: string; kind: string; canOpenHere: boolean }[];
  signers: string[];
  generated: boolean;
}

/** Who can open the backups made from now on, and whether this host is one of them. */
export async function listKeys(site: Site): Promise<ListedKeys> {
  const [recipients, own, signers] = await Promise.all([
    recipientsOf(site),
    identities(site),
    trustedSigners(site),
  ]);
  const openable = own.map((identity) =>
    identity.kind === "x25519" ? site.format.recipientOf(identity.identity) : "passphrase",
  );
  return {
    recipients: recipients.map((recipient) => {
      const text = recipientName(recipient);
      return { recipient: text, kind: recipient.kind, canOpenHere: openable.includes(text) };
    }),
    signers,
    generated: site.config.keys.generatedIn !== null,
  };
}

export const nameOfKey = (key: WrappedKey): string => (key.kind === "x25519" ? key.recipient : "passphrase");

export interface KeyTest {
  backupId: string;
  opened: { recipient: string; ok: boolean }[];
}

/** Proves that this host's keys open a real backup: a key that was never tried is no key. */
export async function testKeys(site: Site, reference: string): Promise<KeyTest> {
  const found = await findBackup(site, reference);
  const { manifest } = found;
  const { backupId, keyCommitment } = manifest.body;
  const own = await identities(site);
  const opened = await Promise.all(
    manifest.keys.map(async (key) => {
      try {
        await site.format.unwrapDataKey([key], own, { backupId, commitment: keyCommitment });
        return { recipient: nameOfKey(key), ok: true };
      } catch (error) {
        if (!isJBackupError(error, "no_key")) throw error;
        return { recipient: nameOfKey(key), ok: false };
      }
    }),
  );
  if (!opened.some(({ ok }) => ok)) {
    throw new JBackupError("no_key", `no key of this host opens backup ${manifest.body.label}`, {
      hint: `name in keys.identity the private key of ${opened.map(({ recipient }) => recipient).join(" or ")}`,
    });
  }
  for (const need of manifest.body.needs ?? []) {
    const needed = await findNeeded(site, found, need);
    const older = needed.manifest;
    const { label } = older.body;
    await openDataKey(site, needed).catch((error: unknown) => {
      if (!isJBackupError(error, "no_key")) throw error;
      throw new JBackupError(
        "no_key",
        `no key of this host opens backup ${label}, on which ${manifest.body.label} builds`,
        {
          hint: `name in keys.identity the private key of ${older.keys.map(nameOfKey).join(" or ")}`,
          cause: error,
        },
      );
    });
  }
  await recordAudit(site, "keys.test", backupId, { opened });
  return { backupId, opened };
}

/** A rotation writes where a backup does, so it takes the backup's lock. */
const BACKUP_LOCK = "backup-full";

export interface KeyRotation {
  rewrapped: number;
  /** Without an id nothing at all was sealed anew in that storage. */
  failed: { backupId: string | null; storage: string; error: string }[];
}

/** Seals every backup's data key for the recipients of today. Objects stay as they are; a manifest is replaced in one step, so a kill leaves old or new keys, both of which work. */
export async function rotateKeys(site: Site): Promise<KeyRotation> {
  const rotate = async (run: RunContext): Promise<KeyRotation> => {
    await run.settleKilled();
    const { recipients, signing } = await sealingKeys(site);
    const signers = await trustedSigners(site);
    const { usable, lost } = await storagesForReading(site);
    // one moment for all: where a rotation stopped half-way, the keys of the later one are right
    const at = site.clock.now().toISOString();
    const work: Rotating = { recipients, signers, sealed: { at, signing }, usable, wrapped: new Map() };
    const failed: KeyRotation["failed"] = [...lost].map(([storage, error]) => ({
      backupId: null,
      storage,
      error: reasonOf(error),
    }));
    for (const storage of usable) failed.push(...(await rotateStorage(site, storage, work)));
    for (const { name } of site.config.storages) await alertUnrotated(site, name, failed);
    const rewrapped = work.wrapped.size;
    await recordAudit(site, "keys.rotate", site.config.site, { rewrapped, failed: failed.length });
    return { rewrapped, failed };
  };
  const judge = ({ failed }: KeyRotation) => (failed.length === 0 ? "succeeded" : "partial");
  return withRun(site, "keys-rotate", rotate, { lock: BACKUP_LOCK, judge });
}

interface Rotating {
  recipients: Recipient[];
  signers: string[];
  sealed: { at: string; signing: Secret };
  usable: Storage[];
  /** The same in every storage. */
  wrapped: Map<string, WrappedKey[]>;
}

async function rotateStorage(
  site: Site,
  storage: Storage,
  { recipients, signers, sealed, usable, wrapped }: Rotating,
): Promise<KeyRotation["failed"]> {
  const failed: KeyRotation["failed"] = [];
  const fail = (backupId: string | null, error: unknown): void => {
    site.signal.throwIfAborted();
    failed.push({ backupId, storage: storage.name, error: reasonOf(error) });
  };
  let places: SealedPlace[] = [];
  try {
    places = await sealedFor(storage);
  } catch (error) {
    fail(null, error);
  }
  for (const [done, place] of places.entries()) {
    site.signal.throwIfAborted();
    try {
      const manifest = await manifestAt(site, storage, place, signers);
      const { backupId } = manifest.body;
      const fresh =
        wrapped.get(backupId) ??
        (await site.format.wrapDataKey(await dataKeyOf(site, place, manifest, usable), recipients, backupId));
      wrapped.set(backupId, fresh);
      const body = site.storage.bytesBody([site.format.rewrapManifest(manifest, fresh, sealed)]);
      await storage.put(place.key, body, { replace: true, signal: site.signal });
      site.step("manifest-rewrapped");
    } catch (error) {
      fail(place.id, error);
    }
    const task = `rotating keys in ${storage.name}`;
    site.report.progress({ task, done: done + 1, total: places.length, unit: "objects" });
  }
  site.report.progressEnd();
  return failed;
}

/** Who was to lose access has it there still: said until a rotation has come to every backup of that storage. */
async function alertUnrotated(site: Site, storage: string, failed: KeyRotation["failed"]): Promise<void> {
  const fingerprint = `keys_rotation:${storage}`;
  const [first] = failed.filter((one) => one.storage === storage);
  if (first === undefined) {
    await resolveAlert(site, fingerprint, "the keys of every backup there were sealed anew");
    return;
  }
  const what = first.backupId === null ? "every backup" : `backup ${first.backupId}`;
  await raiseAlert(site, {
    type: "SECURITY",
    severity: "error",
    fingerprint,
    message: `storage ${storage} was not reached by a rotation of keys: ${what} there still opens with the earlier ones (${first.error})`,
    hint: "jbackup storages check shows what is wrong with it; then run jbackup keys rotate again",
    storage,
  });
}

interface SealedPlace {
  key: string;
  id: string;
  tenantId: string | null;
  /** Null for a key of the WAL, which is no backup. */
  folder: string | null;
}

async function manifestAt(
  site: Site,
  storage: Storage,
  { key, id, tenantId, folder }: SealedPlace,
  signers: string[],
): Promise<Manifest> {
  if (folder !== null)
    return (await readManifest(site, [storage], { folder, id, tenantId }, signers)).manifest;
  const bytes = await site.storage.readAll(storage, key, { maxBytes: site.format.MANIFEST_MAX_BYTES });
  return site.format.readManifest(bytes, { signers, expect: { site: site.config.site, backupId: id } });
}

/** From any storage whose keys open it: a rotation seals anew also what was spoilt in one of them. */
function dataKeyOf(
  site: Site,
  { folder, id }: SealedPlace,
  manifest: Manifest,
  storages: Storage[],
): Promise<Buffer> {
  if (folder !== null) return openDataKey(site, { manifest, folder, storages, holders: [], ...nothingNewer });
  return walKeys(site, storages, String(manifest.body.metadata.systemId))(id);
}

/** Everything in a storage that holds wrapped keys: the manifests of backups, and the keys of the WAL. */
async function sealedFor(storage: Storage): Promise<SealedPlace[]> {
  const places: SealedPlace[] = [];
  for await (const { key } of storage.list("backups/")) {
    const place = parseManifestKey(key);
    if (place !== null) places.push({ key, ...place });
  }
  for await (const { key } of storage.list("wal/")) {
    const id = parseEpochKey(key);
    if (id !== null) places.push({ key, id, tenantId: null, folder: null });
  }
  return places;
}
