import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import type { Manifest, WrappedKey } from "../domain/manifest.js";
import { parseManifestKey } from "../domain/reference.js";
import { parseEpochKey } from "../domain/wal.js";
import type { Storage } from "../storage/storage.js";
import { recordAudit } from "./audit.js";
import { findBackup, readManifest } from "./findBackup.js";
import { type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";
import { identities, recipientName, recipientsOf, sealingKeys, trustedSigners } from "./siteKeys.js";
import { storagesForReading } from "./useStorages.js";

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
  const { manifest } = await findBackup(site, reference);
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
  await recordAudit(site, "keys.test", backupId, { opened });
  return { backupId, opened };
}

/** A rotation writes where a backup does, so it takes the backup's lock. */
const BACKUP_LOCK = "backup-full";

export interface KeyRotation {
  rewrapped: number;
  failed: { backupId: string; storage: string; error: string }[];
}

/** Seals every backup's data key for the recipients of today. Objects stay as they are; a manifest is replaced in one step, so a kill leaves old or new keys, both of which work. */
export async function rotateKeys(site: Site): Promise<KeyRotation> {
  const rotate = async (run: RunContext): Promise<KeyRotation> => {
    await run.settleKilled();
    const { recipients } = await sealingKeys(site);
    const own = await identities(site);
    const signers = await trustedSigners(site);
    const { usable } = await storagesForReading(site);
    const wrapped = new Map<string, WrappedKey[]>();
    const failed: KeyRotation["failed"] = [];
    for (const storage of usable) {
      const places = await sealedFor(storage);
      for (const [done, place] of places.entries()) {
        site.signal.throwIfAborted();
        try {
          const manifest = await manifestAt(site, storage, place, signers);
          const { backupId, keyCommitment } = manifest.body;
          const fresh =
            wrapped.get(backupId) ??
            (await site.format.wrapDataKey(
              await site.format.unwrapDataKey(manifest.keys, own, { backupId, commitment: keyCommitment }),
              recipients,
              backupId,
            ));
          wrapped.set(backupId, fresh);
          const body = site.storage.bytesBody([site.format.rewrapManifest(manifest, fresh)]);
          await storage.put(place.key, body, { replace: true, signal: site.signal });
          site.step("manifest-rewrapped");
        } catch (error) {
          site.signal.throwIfAborted();
          failed.push({ backupId: place.id, storage: storage.name, error: reasonOf(error) });
        }
        site.report.progress({
          task: `rotating keys in ${storage.name}`,
          done: done + 1,
          total: places.length,
          unit: "objects",
        });
      }
      site.report.progressEnd();
    }
    await recordAudit(site, "keys.rotate", site.config.site, {
      rewrapped: wrapped.size,
      failed: failed.length,
    });
    return { rewrapped: wrapped.size, failed };
  };
  return withRun(site, "keys-rotate", rotate, { lock: BACKUP_LOCK });
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
