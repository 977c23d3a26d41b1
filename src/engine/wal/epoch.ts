import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isJBackupError } from "../../domain/errors.js";
import type { ManifestBody } from "../../domain/manifest.js";
import { compactTime } from "../../domain/time.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import type { SealingKeys } from "../siteKeys.js";

/**
 * The key that WAL objects are sealed with for a day at most. Its manifest, in every storage, opens it to whoever can open
 * backups; the host keeps the key itself as long as it is in use, so that the short-lived processes share it.
 */
export interface Epoch {
  id: string;
  dataKey: Buffer;
  /** The signed manifest, to be stored before the first object that is sealed with the key. */
  manifest: Buffer;
}

interface Kept {
  id: string;
  systemId: string;
  createdAt: string;
  recipients: string;
  dataKey: string;
  manifest: string;
}

const LONGEST_MS = 24 * 3_600_000;

const keptPath = (site: Site): string => join(site.config.home, `${site.config.site}.wal-epoch.json`);

export async function currentEpoch(site: Site, keys: SealingKeys, systemId: string): Promise<Epoch> {
  const recipients = await recipientsMark(keys);
  const kept = await readKept(site);
  const isUsable =
    kept !== null &&
    kept.systemId === systemId &&
    kept.recipients === recipients &&
    site.clock.now().getTime() - Date.parse(kept.createdAt) < LONGEST_MS;
  if (isUsable)
    return {
      id: kept.id,
      dataKey: Buffer.from(kept.dataKey, "base64"),
      manifest: Buffer.from(kept.manifest, "base64"),
    };
  return newEpoch(site, keys, systemId, recipients);
}

/** Changes when the recipients do: what is sealed from then on must open for the new ones only. */
async function recipientsMark({ recipients, signer }: SealingKeys): Promise<string> {
  const { createHash } = await import("node:crypto");
  const texts = recipients.map((one) => (one.kind === "x25519" ? one.publicKey : one.passphrase.reveal()));
  return createHash("sha256")
    .update(JSON.stringify([signer, ...texts]))
    .digest("hex");
}

async function readKept(site: Site): Promise<Kept | null> {
  try {
    return JSON.parse(await readFile(keptPath(site), "utf8")) as Kept;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT" || error instanceof SyntaxError) return null;
    throw error;
  }
}

async function newEpoch(site: Site, keys: SealingKeys, systemId: string, recipients: string): Promise<Epoch> {
  const id = site.newId();
  const dataKey = site.format.newDataKey();
  const at = site.clock.now();
  const wrapped = await site.format.wrapDataKey(dataKey, keys.recipients, id);
  const body = bodyOf(site, id, systemId, at, site.format.commitmentOf(dataKey));
  const manifest = site.format.signManifest(body, wrapped, keys.signing);
  const kept: Kept = {
    id,
    systemId,
    createdAt: at.toISOString(),
    recipients,
    dataKey: dataKey.toString("base64"),
    manifest: manifest.toString("base64"),
  };
  await writeFileAtomic(keptPath(site), `${JSON.stringify(kept)}\n`, { overwrite: true });
  return { id, dataKey, manifest };
}

function bodyOf(site: Site, id: string, systemId: string, at: Date, keyCommitment: string): ManifestBody {
  return {
    format: 1,
    site: site.config.site,
    backupId: id,
    label: `wal-key-${compactTime(at)}`,
    kind: "wal",
    method: null,
    tenantId: null,
    sequence: 0,
    previousDigest: null,
    createdAt: at.toISOString(),
    finishedAt: at.toISOString(),
    createdBy: `${site.environment.user}@${site.environment.host}`,
    jobId: id,
    tool: { name: "jbackup", version: site.version },
    server: null,
    timeline: null,
    startLsn: null,
    endLsn: null,
    parentId: null,
    keyCommitment,
    codec: site.config.compression.codec,
    rawBytes: 0,
    storedBytes: 0,
    objects: [],
    note: null,
    warnings: [],
    metadata: { systemId },
  };
}

export const isNotThere = (error: unknown): boolean => isJBackupError(error, "object_missing");
