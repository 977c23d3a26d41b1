import type { AuditHead } from "../../domain/auditHead.js";
import type { Backup, Copy } from "../../domain/backup.js";
import { reasonOf } from "../../domain/errors.js";
import type { ManifestBody, NeededBackup } from "../../domain/manifest.js";
import { ratioOf, recordOf } from "../../domain/record.js";
import { folderOf } from "../../domain/reference.js";
import type { Archive, FinishedArchive } from "../../format/format.js";
import { auditHead } from "../audit.js";
import { type ChainEnd, chainEnd, moveChain } from "../chain.js";
import { type FanOut, fanOut } from "../replicate.js";
import type { Site } from "../site.js";
import type { SealingKeys } from "../siteKeys.js";
import { alertLostStorage, storagesWithoutRoom, type UsableStorages } from "../useStorages.js";

export interface ArchiveWork {
  /** Before anything shrinks it: decides about room in the storages and the size of packs. */
  expectedBytes: number;
  /** Reads everything into the archive; what it answers becomes the manifest. */
  fill(archive: Archive, flow: Flow): Promise<Filled>;
}

/** What the manifest says beyond what every backup says of itself. */
export interface Filled
  extends Pick<
    ManifestBody,
    "server" | "timeline" | "startLsn" | "endLsn" | "parentId" | "warnings" | "metadata"
  > {
  /** For the sealed contents. */
  detail: Record<string, unknown>;
  needs?: NeededBackup[];
}

/** Seals what is read, once, into all storages; the backup exists from the moment its manifest does. */
export async function storeArchive(
  site: Site,
  draft: Backup,
  keys: SealingKeys,
  storages: UsableStorages,
  work: ArchiveWork,
): Promise<Backup> {
  const folder = folderOf(draft.kind, draft.id, new Date(draft.createdAt), draft.tenantId);
  for (const [name, error] of await storagesWithoutRoom(
    site,
    storages.usable,
    work.expectedBytes,
    draft.kind,
  ))
    storages.lost.set(name, error);
  for (const [name, error] of storages.lost)
    site.report.warn(`storage ${name} is out of this backup: ${reasonOf(error)}`);
  const flow: Flow = { sealedBytes: 0, copiedBytes: 0, isRead: false };
  const out = fanOut({
    storages: storages.usable.filter(({ name }) => !storages.lost.has(name)),
    folder,
    minCopies: site.config.minCopies,
    lostBefore: storages.lost,
    signal: site.signal,
    toBody: site.storage.bytesBody,
    onStored: (_storage, bytes) => {
      flow.copiedBytes += bytes;
      if (flow.isRead) reportCopying(site, flow, storages.usable.length - storages.lost.size);
      site.step("object-stored");
    },
    onLost: (name, error) => site.report.warn(`storage ${name} is out of this backup: ${reasonOf(error)}`),
  });
  let isCommitted = false;
  try {
    const dataKey = site.format.newDataKey();
    const archive = site.format.createArchive({
      site: site.config.site,
      backupId: draft.id,
      tenantId: draft.tenantId,
      dataKey,
      compression: site.config.compression,
      packBytes: packBytesFor(work.expectedBytes),
      store: (object) => {
        flow.sealedBytes += object.bytes;
        return out.store(object);
      },
    });
    const filled = await work.fill(archive, flow);
    flow.isRead = true;
    const finished = await archive.finish(filled.detail);
    await out.settle();
    site.step("settled");

    const commitment = site.format.commitmentOf(dataKey);
    const follows = { end: await chainEnd(site), audit: await auditHead(site) };
    const body = bodyOf(site, draft, filled, finished, commitment, follows);
    const wrapped = await site.format.wrapDataKey(dataKey, keys.recipients, draft.id);
    const holding = await out.commit(site.format.signManifest(body, wrapped, keys.signing));
    isCommitted = true;
    site.step("manifest-stored");

    const digest = site.format.digestOf(body);
    await moveChain(site, { sequence: body.sequence, digest }).catch((error) => {
      // the catalog's record of this backup carries the end of the chain as well
      site.report.warn(
        `the end of the chain of manifests could not be noted in ${site.config.home}: ${reasonOf(error)}`,
      );
    });
    for (const [name, error] of new Map([...storages.lost, ...out.failures()]))
      await alertLostStorage(site, name, error, draft.id);
    return recordOf(body, digest, copiesOf(site, folder, finished.storedBytes, holding));
  } catch (error) {
    // a manifest must never outlive its objects: what fails from here on fails beside a whole backup
    if (!isCommitted) await discardWithin(out, DISCARD_MS);
    throw error;
  } finally {
    site.report.progressEnd();
  }
}

const DISCARD_MS = 6_000;

/** What is not taken back in time has no manifest, and so is no backup; cleanup sweeps it. */
const discardWithin = (out: FanOut, limitMs: number): Promise<unknown> =>
  Promise.race([out.discard(), new Promise((resolve) => setTimeout(resolve, limitMs).unref())]);

/** How much has come through so far, for those who watch. */
export interface Flow {
  sealedBytes: number;
  copiedBytes: number;
  isRead: boolean;
}

/** The database is let go by then: only slow storages are still waited for. */
function reportCopying(site: Site, flow: Flow, storages: number): void {
  const total = flow.sealedBytes * storages;
  site.report.progress({ task: "completing the copies", done: flow.copiedBytes, total, unit: "bytes" });
}

const MIB = 2 ** 20;

/** Small packs keep memory low, large ones keep requests few. */
const packBytesFor = (databaseBytes: number): number =>
  Math.min(32 * MIB, Math.max(8 * MIB, Math.ceil(databaseBytes / 8192 / MIB) * MIB));

/** Where the site's two chains stand when a manifest is signed. */
export interface Follows {
  /** The manifest before. */
  end: ChainEnd;
  audit: AuditHead | null;
}

/** All that is signed. */
export function bodyOf(
  site: Site,
  draft: Backup,
  { detail: _, needs, ...filled }: Filled,
  finished: Pick<FinishedArchive, "rawBytes" | "storedBytes" | "objects">,
  keyCommitment: string,
  { end, audit }: Follows,
): ManifestBody {
  return {
    format: 1,
    site: site.config.site,
    backupId: draft.id,
    label: draft.label,
    kind: draft.kind,
    method: draft.method,
    tenantId: draft.tenantId,
    sequence: end.sequence + 1,
    previousDigest: end.digest,
    createdAt: draft.createdAt,
    finishedAt: site.clock.now().toISOString(),
    createdBy: draft.createdBy,
    jobId: draft.jobId,
    tool: { name: "jbackup", version: site.version },
    keyCommitment,
    codec: site.config.compression.codec,
    rawBytes: finished.rawBytes,
    storedBytes: finished.storedBytes,
    objects: finished.objects,
    ...(needs === undefined ? {} : { needs }),
    note: draft.note,
    ...filled,
    metadata: {
      ...filled.metadata,
      compressionRatio: ratioOf(finished.rawBytes, finished.storedBytes),
      ...(audit === null ? {} : { auditHead: audit }),
    },
  };
}

export function copiesOf(site: Site, folder: string, bytes: number, holding: string[]): Copy[] {
  return site.config.storages.map(({ name, kind }) => ({
    storage: name,
    kind,
    status: holding.includes(name) ? "stored" : "missing",
    path: folder,
    bytes: holding.includes(name) ? bytes : 0,
    verifiedAt: null,
  }));
}
