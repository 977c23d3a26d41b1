import type { Backup } from "../domain/backup.js";
import { reasonOf } from "../domain/errors.js";
import type { PhysicalFacts } from "../domain/physical.js";
import { parseLsn } from "../domain/wal.js";
import type { Archive } from "../format/format.js";
import type { BaseBackup, ChangedPages, StoppedBackup } from "../postgres/postgres.js";
import type { Storage } from "../storage/storage.js";
import { collectGarbageAtOnce } from "../sys/garbage.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { againIfServerReturns } from "./backup/again.js";
import { type BackupRequest, JOB, recorded } from "./backup/record.js";
import { type Filled, storeArchive } from "./backup/storeArchive.js";
import { withBackupRun } from "./hooks.js";
import { lockOnServer } from "./lock.js";
import { requireOwnSystem } from "./ownSystem.js";
import { dropOtherMaps, type MapWriter, writeMap } from "./physical/mapFile.js";
import { findParent, type Parent, saveState } from "./physical/parent.js";
import { Sources } from "./physical/sources.js";
import { type Storing, storeAll, storeFile, type Tally } from "./physical/storeFiles.js";
import { noteOfRecipients } from "./sealedFor.js";
import type { Site } from "./site.js";
import { type SealingKeys, sealingKeys } from "./siteKeys.js";
import { storagesForWriting, sweepStorages, type UsableStorages } from "./useStorages.js";
import { makeFirstSlot } from "./wal/firstSlot.js";
import { resolveGaps } from "./wal/gapAlerts.js";

export interface PhysicalRequest extends BackupRequest {
  /** Store everything, whatever the last backup holds. */
  fresh: boolean;
}

/** The cluster's files, read while it runs: what changed since the last backup is stored, the rest is referred to. */
export async function backupPhysical(site: Site, request: PhysicalRequest): Promise<Backup> {
  const what = { job: JOB, kind: "full", method: "physical", note: request.note } as const;
  collectGarbageAtOnce();
  return withBackupRun(site, JOB, "full", async (run) => {
    const keys = await sealingKeys(site);
    const storages = await storagesForWriting(site);
    const postgres = await site.postgres();
    await (await postgres.admin()).close(); // a server that is not there at all is not waited for
    return againIfServerReturns(site, postgres, async () => {
      const admin = await postgres.admin();
      try {
        await lockOnServer(site, admin, JOB);
        await run.settleKilled();
        await sweepStorages(site, storages.usable);
        await makeFirstSlot(site, admin);
        return await recorded(site, run, what, (draft) => takeBackup(site, draft, keys, storages, request));
      } finally {
        await admin.close();
      }
    });
  });
}

async function takeBackup(
  site: Site,
  draft: Backup,
  keys: SealingKeys,
  storages: UsableStorages,
  request: PhysicalRequest,
): Promise<Backup> {
  site.report.progress({ task: "waiting for a checkpoint", done: 0, total: null, unit: "bytes" });
  const base = await (await site.postgres()).openBaseBackup(draft.label);
  try {
    site.step("backup-started");
    return await carryOut(site, draft, base, storages.usable, { ...request, keys }, (work) =>
      storeArchive(site, draft, keys, storages, {
        expectedBytes: base.cluster.bytes,
        fill: (archive) => fill(work, archive),
      }),
    );
  } finally {
    await base.close();
  }
}

async function carryOut(
  site: Site,
  draft: Backup,
  base: BaseBackup,
  storages: Storage[],
  request: PhysicalRequest & { keys: SealingKeys },
  store: (work: Work) => Promise<Backup>,
): Promise<Backup> {
  const work = await beginWork(site, draft, base, storages, request);
  try {
    const done = withoutBehind(site, await store(work), work.parent?.behind ?? []);
    await remember(work, draft).catch((error: unknown) =>
      site.report.warn(`what this backup holds could not be noted for the next one: ${reasonOf(error)}`),
    );
    await tellDamage(work, done);
    await resolveGaps(site, parseLsn(base.startLsn), `${draft.label} is a base behind it`);
    return done;
  } finally {
    await work.map.discard();
    await work.parent?.map.close();
  }
}

/** What it builds on is not there, so it is no copy yet: healing brings the rest right afterwards. */
function withoutBehind(site: Site, done: Backup, behind: string[]): Backup {
  if (behind.length === 0) return done;
  site.report.info(
    `${behind.join(", ")} lacks older backups that this one builds on: they are brought there`,
  );
  return {
    ...done,
    copies: done.copies.map((copy) =>
      behind.includes(copy.storage) && copy.status === "stored" ? { ...copy, status: "missing" } : copy,
    ),
    metadata: { ...done.metadata, behind },
  };
}

interface Work {
  site: Site;
  base: BaseBackup;
  parent: Parent | null;
  sources: Sources;
  map: MapWriter;
  fingerprintKey: Buffer;
  tally: Tally;
  /** Who opens what is stored. */
  sealedFor: string[];
}

async function beginWork(
  site: Site,
  draft: Backup,
  base: BaseBackup,
  storages: Storage[],
  { fresh, keys }: PhysicalRequest & { keys: SealingKeys },
): Promise<Work> {
  await requireOwnSystem(site, base.cluster.server.systemId);
  const parent = await findParent(site, { fresh, systemId: base.cluster.server.systemId, storages, keys });
  return {
    site,
    base,
    parent,
    sources: new Sources(site.format, parent),
    map: await writeMap(site, draft.id),
    fingerprintKey:
      parent === null ? site.format.newFingerprintKey() : Buffer.from(parent.state.fingerprintKey, "base64"),
    tally: {
      files: 0,
      bytes: 0,
      readBytes: 0,
      storedBytes: 0,
      storedBlocks: 0,
      referencedBlocks: 0,
      damagedPages: [],
    },
    sealedFor: noteOfRecipients(site, keys),
  };
}

/** Files, then pg_control, then the WAL between start and stop, then the map of it all. */
async function fill(work: Work, archive: Archive): Promise<Filled> {
  const { site, base, parent, tally } = work;
  const changed = await changesSince(work);
  const storing: Storing = {
    ...work,
    archive,
    changed,
    onRead: () => {
      base.requireAlive();
      site.report.progress({
        task: parent === null ? "reading files" : "reading what changed",
        done: Math.min(Math.max(tally.readBytes, tally.bytes), base.cluster.bytes),
        total: base.cluster.bytes,
        unit: "bytes",
      });
    },
  };
  await storeAll(storing, base);
  site.step("files-read");
  await storeFile(storing, await base.files.control());
  const stopped = await base.stop();
  site.step("backup-stopped");
  const { walSegmentBytes } = base.cluster;
  const range = {
    timeline: base.timeline,
    startLsn: base.startLsn,
    endLsn: stopped.endLsn,
    segmentBytes: walSegmentBytes,
  };
  for await (const segment of base.files.wal(range)) await storeFile(storing, segment);
  await archive.addEntry(site.format.MAP_ENTRY, work.map.content());
  site.step("map-stored");
  const how = changed === null ? "fingerprints" : "summaries";
  return filledFrom(work, stopped, parent === null ? null : how);
}

/** Where the server keeps summaries of its WAL, what did not change is not even read. */
async function changesSince({ site, base, parent }: Work): Promise<ChangedPages | null> {
  if (parent === null || parent.state.timeline !== base.timeline) return null;
  const { timeline, startLsn } = base;
  return base.changedSince({ timeline, fromLsn: parent.state.startLsn, toLsn: startLsn }, site.signal);
}

function filledFrom(
  work: Work,
  stopped: StoppedBackup,
  comparedBy: "summaries" | "fingerprints" | null,
): Filled {
  const { base, parent, sources, tally } = work;
  const { server } = base.cluster;
  const physical = physicalFacts(work, stopped);
  const damaged = tally.damagedPages.slice(0, MOST_NAMED).map(({ path, block }) => `${path} page ${block}`);
  return {
    server: { version: server.version, versionNum: server.versionNum, systemId: server.systemId },
    timeline: base.timeline,
    startLsn: base.startLsn,
    endLsn: stopped.endLsn,
    parentId: parent?.state.backupId ?? null,
    needs: sources.needs(),
    warnings: [
      ...base.files.warnings(),
      ...(damaged.length === 0
        ? []
        : [`${tally.damagedPages.length} damaged pages in the cluster itself: ${damaged.join(", ")}`]),
    ],
    metadata: {
      clusterBytes: tally.bytes,
      readBytes: tally.readBytes,
      files: tally.files,
      incremental: parent !== null,
      comparedBy,
      blocksStored: tally.storedBlocks,
      blocksReferenced: tally.referencedBlocks,
      damagedPages: tally.damagedPages.length,
      takenOn: base.takenOn,
      reader: base.reader,
      lagSeconds: base.lagSeconds,
      timeline: base.timeline,
      startLsn: base.startLsn,
      endLsn: stopped.endLsn,
      startTime: base.startTime,
      endTime: stopped.endTime,
      systemId: server.systemId,
      walSegmentBytes: base.cluster.walSegmentBytes,
    },
    detail: { physical, census: base.cluster.census },
  };
}

const MOST_NAMED = 10;
const MOST_KEPT = 10_000;

function physicalFacts(
  { base, sources, tally, fingerprintKey }: Work,
  stopped: StoppedBackup,
): PhysicalFacts {
  const { cluster } = base;
  return {
    format: 1,
    fingerprintKey: fingerprintKey.toString("base64"),
    sources: sources.ids,
    server: {
      version: cluster.server.version,
      versionNum: cluster.server.versionNum,
      major: cluster.server.major,
      systemId: cluster.server.systemId,
    },
    superuser: cluster.superuser,
    timeline: base.timeline,
    startLsn: base.startLsn,
    endLsn: stopped.endLsn,
    startTime: base.startTime,
    endTime: stopped.endTime,
    takenOn: base.takenOn,
    reader: base.reader,
    walSegmentBytes: cluster.walSegmentBytes,
    hasPageChecksums: cluster.hasPageChecksums,
    backupLabel: stopped.backupLabel,
    tablespaces: cluster.tablespaces,
    settings: cluster.settings,
    hasOwnConfiguration: cluster.hasOwnConfiguration,
    files: tally.files,
    bytes: tally.bytes,
    damagedPages: tally.damagedPages.slice(0, MOST_KEPT),
  };
}

/** For the next backup: this host may hold no key that opens this one. */
async function remember(work: Work, draft: Backup): Promise<void> {
  const { site, base, parent, sources } = work;
  await work.map.keep();
  await saveState(site, {
    backupId: draft.id,
    since: parent?.state.since ?? draft.createdAt,
    fingerprintKey: work.fingerprintKey.toString("base64"),
    sources: sources.ids,
    systemId: base.cluster.server.systemId,
    timeline: base.timeline,
    startLsn: base.startLsn,
    sealedFor: work.sealedFor,
    damagedPages: work.tally.damagedPages.slice(0, MOST_KEPT),
  });
  site.step("chain-remembered");
  await dropOtherMaps(site, draft.id);
}

/** Damage in the cluster itself: the backup is kept, and somebody must look before the older ones are gone. */
async function tellDamage({ site, tally }: Work, done: Backup): Promise<void> {
  const fingerprint = "damaged_pages";
  const [first] = tally.damagedPages;
  if (first === undefined) {
    await resolveAlert(site, fingerprint, `backup ${done.label} found no damaged page`);
    return;
  }
  await raiseAlert(site, {
    type: "INTEGRITY_FAILURE",
    severity: "critical",
    fingerprint,
    message: `${tally.damagedPages.length} pages of the cluster have a wrong checksum, the first is page ${first.block} of ${first.path}`,
    hint: "an older backup may hold them whole: restore it beside with --into-dir, and look for failing hardware",
    backupId: done.id,
  });
}
