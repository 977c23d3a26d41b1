import { createHmac } from "node:crypto";
import type { Backup } from "../../domain/backup.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { NeededBackup } from "../../domain/manifest.js";
import type { TenantFacts } from "../../domain/tenantBackup.js";
import type { Storage } from "../../storage/storage.js";
import { readManifest } from "../readManifest.js";
import { isSealedFor } from "../sealedFor.js";
import type { Site } from "../site.js";
import type { SealingKeys } from "../siteKeys.js";
import { nearestFirst } from "../useStorages.js";

/** The last backups of tenants, to compare with: of a batch at a time, for those of all tenants fill the memory. */
export interface Earlier {
  /** Lets go of those before. */
  lookUp(tenantIds: string[]): Promise<void>;
  lastOf(tenantId: string): Backup | undefined;
  byId(id: string): Promise<Backup | undefined>;
}

export function earlierBackups(site: Site): Earlier {
  let found: Backup[] = [];
  let last = new Map<string | null, Backup>();
  let isTold = false;
  return {
    lookUp: async (tenantIds) => {
      found = [];
      try {
        found = await site.catalog.lastOfTenants(tenantIds);
      } catch (error) {
        if (!isJBackupError(error, "catalog_unavailable")) throw error;
        if (!isTold)
          site.report.warn(
            "the catalog cannot be read: tenants are stored anew, and are not compared with their last backups",
          );
        isTold = true;
      }
      last = new Map(found.map((backup) => [backup.tenantId, backup]));
    },
    lastOf: (tenantId) => last.get(tenantId),
    byId: async (id) =>
      found.find((backup) => backup.id === id) ??
      (await site.catalog.backups({ reference: id, limit: 1 }))[0],
  };
}

/** Says whether two backups hold the same rows, and nothing else to anybody who lacks the signing key. */
export function fingerprintOf({ tables, schemaFingerprint, name }: TenantFacts, keys: SealingKeys): string {
  const content = tables.map(({ table, rows, sha256 }) => [table, rows, sha256]);
  return createHmac("sha256", `jbackup/1 tenant fingerprint\0${keys.signing.reveal()}`)
    .update(JSON.stringify([schemaFingerprint, name, content]))
    .digest("hex");
}

/** Below this a tenant may come and go: nothing is concluded from its size. */
const COMPARED_FROM_BYTES = 4096;

/** Far less than last time is more likely a filter, or an accident, than the truth: the last good backup stays the last one. */
export function requireNotShrunken(tenantId: string, bytes: number, last: Backup | undefined): void {
  if (last === undefined || last.rawBytes < COMPARED_FROM_BYTES || bytes * 2 >= last.rawBytes) return;
  throw new JBackupError(
    "verification_failed",
    `tenant ${tenantId} has shrunk to ${bytes} bytes of rows, from ${last.rawBytes} in ${last.label}`,
    { hint: "look what became of its rows; --accept-shrunken takes it as it is" },
  );
}

/**
 * What an unchanged tenant's backup refers to: the objects of the one that holds them, if they are still in every storage in
 * use and sealed for the same recipients. Null when it has to be stored anew.
 */
export async function sameContent(
  site: Site,
  earlier: Earlier,
  last: Backup | undefined,
  fingerprint: string,
  storages: Storage[],
  keys: SealingKeys,
  signers: string[],
): Promise<NeededBackup | null> {
  if (last === undefined || last.metadata.fingerprint !== fingerprint) return null;
  const holderId = typeof last.metadata.sameAs === "string" ? last.metadata.sameAs : last.id;
  try {
    const holder = await earlier.byId(holderId);
    const folder = holder?.copies[0]?.path;
    if (holder === undefined || folder === undefined) return null;
    const isWhole = storages.every(({ name }) =>
      holder.copies.some((copy) => copy.storage === name && copy.status === "stored"),
    );
    if (!isWhole) return null;
    const place = {
      folder,
      id: holder.id,
      tenantId: holder.tenantId,
      ...(holder.checksum === null ? {} : { digest: holder.checksum }),
    };
    const { manifest } = await readManifest(site, nearestFirst(storages), place, signers);
    if (!(await isSealedFor(site, manifest, keys))) return null;
    return { backupId: holder.id, folder, objects: manifest.body.objects };
  } catch (error) {
    site.signal.throwIfAborted();
    if (!isJBackupError(error)) throw error;
    return null; // whatever is wrong with the older one, a new one is not touched by it
  }
}
