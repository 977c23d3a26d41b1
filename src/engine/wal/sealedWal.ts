import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { epochKey } from "../../domain/wal.js";
import type { Storage } from "../../storage/storage.js";
import { raiseAlert } from "../alert.js";
import { keysChanged } from "../readManifest.js";
import type { Site } from "../site.js";
import { identities, trustedSigners } from "../siteKeys.js";

/** The largest segment that PostgreSQL can be made with, and room for the seal. */
export const OBJECT_MAX_BYTES = 1100 * 2 ** 20;

const BAD_COPY = [
  "object_corrupt",
  "object_truncated",
  "container_foreign",
  "frame_reordered",
  "frame_duplicated",
] as const;

/** The bytes that are stored are not that file: no key opens them, and no later try does. */
export const isBadCopy = (error: unknown): error is JBackupError => isJBackupError(error, ...BAD_COPY);

export type WalKeyOf = (epochId: string) => Promise<Buffer>;

/** The keys that WAL is sealed with, each opened once. */
export function walKeys(site: Site, storages: Storage[], systemId: string): WalKeyOf {
  const keys = new Map<string, Promise<Buffer>>();
  return (epochId) => {
    const known = keys.get(epochId);
    if (known) return known;
    const opened = openEpoch(site, storages, systemId, epochId);
    keys.set(epochId, opened);
    opened.catch((error: unknown) => {
      // a key that this host lacks stays lacking; a storage may be back the next time
      if (!isJBackupError(error, "no_key", "secret_unavailable")) keys.delete(epochId);
    });
    return opened;
  };
}

/** A file of the WAL out of the bytes that a storage holds of it. */
export async function openStoredWal(
  site: Site,
  stored: Buffer,
  name: string,
  keyOf: WalKeyOf,
): Promise<Buffer> {
  const claim = site.format.readWalClaim(
    stored.subarray(0, site.format.OPENING_BYTES),
    site.config.site,
    name,
  );
  const context = site.format.walContext(site.config.site, claim.epochId, name, claim.mark);
  const chunks: Buffer[] = [];
  const source = site.storage.bytesBody([stored]);
  for await (const chunk of site.format.openSealed(source, await keyOf(claim.epochId), context))
    chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** From whichever storage has a key that opens: what is in one of them may have been spoilt. */
async function openEpoch(site: Site, storages: Storage[], systemId: string, id: string): Promise<Buffer> {
  const signers = await trustedSigners(site);
  const own = await identities(site);
  let problem: JBackupError | undefined;
  const bad = new Map<string, JBackupError>();
  for (const storage of storages) {
    try {
      const bytes = await site.storage.readAll(storage, epochKey(systemId, id), {
        maxBytes: site.format.MANIFEST_MAX_BYTES,
      });
      const { body, keys, keysAre } = site.format.readManifest(bytes, {
        signers,
        expect: { site: site.config.site, backupId: id },
      });
      if (body.kind !== "wal" || body.metadata.systemId !== systemId)
        throw new JBackupError("manifest_foreign", `the WAL key ${id} belongs to another cluster`);
      if (keysAre === "changed") bad.set(storage.name, keysChanged(id));
      const backup = { backupId: id, commitment: body.keyCommitment };
      const key = await site.format.unwrapDataKey(keys, own, backup);
      for (const [name, error] of bad) await alertBadKey(site, name, id, error);
      return key;
    } catch (error) {
      site.signal.throwIfAborted();
      if (!isJBackupError(error)) throw error;
      if (error.code === "no_key" || error.code.startsWith("manifest_")) bad.set(storage.name, error);
      if (!isJBackupError(error, "object_missing")) problem ??= error;
    }
  }
  throw problem ?? new JBackupError("object_missing", `no storage holds the WAL key ${id}`);
}

/** One alert for whatever somebody did to the WAL of a storage; a verification that finds it right resolves it. */
export const tamperedWal = (storage: string): string => `wal_tampered:${storage}`;

/** Another storage's key of that day is right: this one is not what was written there. */
async function alertBadKey(site: Site, storage: string, id: string, error: JBackupError): Promise<void> {
  const message = `the WAL key ${id} in storage ${storage} cannot be used, and another storage's can: ${error.message}`;
  site.report.warn(message);
  await raiseAlert(site, {
    type: "SECURITY",
    severity: "critical",
    fingerprint: tamperedWal(storage),
    message,
    hint: `find out who can write to storage ${storage}, then run jbackup verify --all --heal`,
    storage,
  });
}
