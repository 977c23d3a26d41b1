import type { Backup, Copy } from "../domain/backup.js";
import { JBackupError, reasonOf } from "../domain/errors.js";
import type { ManifestBody } from "../domain/manifest.js";
import { ratioOf, recordOf } from "../domain/record.js";
import { folderOf, labelOf } from "../domain/reference.js";
import type { Archive, FinishedArchive } from "../format/format.js";
import type { LogicalDump, TableRows } from "../postgres/postgres.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { chainEnd, moveChain } from "./chain.js";
import { healMissing } from "./heal.js";
import { lockOnServer } from "./lock.js";
import { type FanOut, fanOut } from "./replicate.js";
import { type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";
import { type SealingKeys, sealingKeys } from "./siteKeys.js";
import {
  alertLostStorage,
  storagesForWriting,
  storagesWithoutRoom,
  sweepStorages,
  type UsableStorages,
} from "./useStorages.js";

export interface LogicalBackupRequest {
  note: string | null;
}

export const JOB = "backup-full";

/** pg_dump, sealed once, in all storages; it exists from the moment its manifest does. */
export async function backupLogical(site: Site, request: LogicalBackupRequest): Promise<Backup> {
  return withRun(site, JOB, async (run) => {
    const keys = await sealingKeys(site);
    const storages = await storagesForWriting(site);
    const postgres = await site.postgres();
    const admin = await postgres.admin();
    try {
      await lockOnServer(site, admin, JOB);
      await run.settleKilled();
      await sweepStorages(site, storages.usable);
      return await recorded(site, run, request, async (draft) => {
        const dump = await postgres.openDump();
        site.step("snapshot-taken");
        try {
          return await store(site, draft, keys, storages, dump);
        } finally {
          await dump.close();
        }
      });
    } finally {
      await admin.close();
    }
  });
}

/** The backup's record says what happened, however it ends. */
async function recorded(
  site: Site,
  run: RunContext,
  request: LogicalBackupRequest,
  work: (draft: Backup) => Promise<Backup>,
): Promise<Backup> {
  const draft = draftOf(site, run, request);
  await site.catalog.saveBackups([draft]);
  site.step("recorded");
  try {
    const done = await work(draft);
    await site.catalog.saveBackups([done]);
    site.step("catalogued");
    await resolveAlert(site, `failed:${JOB}`, `backup ${done.label} succeeded`);
    await resolveAlert(site, `interrupted:${JOB}`, `backup ${done.label} succeeded`);
    await healMissing(
      site,
      done.copies.filter(({ status }) => status === "missing").map(({ storage }) => storage),
    );
    return done;
  } catch (error) {
    const finishedAt = site.clock.now().toISOString();
    const status = site.signal.aborted ? "interrupted" : "failed";
    await site.catalog.saveBackups([
      { ...draft, status, finishedAt, metadata: { ...draft.metadata, error: reasonOf(error) } },
    ]);
    if (!site.signal.aborted) {
      await raiseAlert(site, {
        type: "BACKUP_FAILURE",
        severity: "critical",
        fingerprint: `failed:${JOB}`,
        message: `backup ${draft.label} failed: ${reasonOf(error)}`,
        hint: error instanceof JBackupError ? (error.hint ?? null) : null,
        backupId: draft.id,
      });
    }
    throw error;
  }
}

function draftOf(site: Site, run: RunContext, request: LogicalBackupRequest): Backup {
  return {
    id: site.newId(),
    label: labelOf("full", run.startedAt),
    kind: "full",
    method: "logical",
    tenantId: null,
    status: "in_progress",
    createdAt: run.startedAt.toISOString(),
    finishedAt: null,
    durationMs: null,
    rawBytes: 0,
    storedBytes: 0,
    compressionRatio: null,
    checksum: null,
    parentId: null,
    copies: [],
    note: request.note,
    createdBy: run.by,
    jobId: run.id,
    warnings: [],
    metadata: {},
  };
}

async function store(
  site: Site,
  draft: Backup,
  keys: SealingKeys,
  storages: UsableStorages,
  dump: LogicalDump,
): Promise<Backup> {
  const folder = folderOf(draft.kind, draft.id, new Date(draft.createdAt));
  for (const [name, error] of await storagesWithoutRoom(site, storages.usable, dump.database.bytes))
    storages.lost.set(name, error);
  for (const [name, error] of storages.lost)
    site.report.warn(`storage ${name} is out of this backup: ${reasonOf(error)}`);
  const flow: Flow = { sealedBytes: 0, copiedBytes: 0, isDumped: false };
  const out = fanOut({
    storages: storages.usable.filter(({ name }) => !storages.lost.has(name)),
    folder,
    minCopies: site.config.minCopies,
    signal: site.signal,
    toBody: site.storage.bytesBody,
    onStored: (_storage, bytes) => {
      flow.copiedBytes += bytes;
      if (flow.isDumped) reportCopying(site, flow, storages.usable.length - storages.lost.size);
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
      tenantId: null,
      dataKey,
      compression: site.config.compression,
      packBytes: packBytesFor(dump.database.bytes),
      store: (object) => {
        flow.sealedBytes += object.bytes;
        return out.store(object);
      },
    });
    const tables = await readDump(site, dump, archive, flow);
    flow.isDumped = true;
    site.step("dumped");
    const finished = await archive.finish({ logical: logicalFacts(dump), tables });
    await out.settle();
    site.step("settled");

    const body = await describe(site, draft, dump, finished, site.format.commitmentOf(dataKey), tables);
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
interface Flow {
  sealedBytes: number;
  copiedBytes: number;
  isDumped: boolean;
}

/** The database is let go by then: only slow storages are still waited for. */
function reportCopying(site: Site, flow: Flow, storages: number): void {
  const total = flow.sealedBytes * storages;
  site.report.progress({ task: "completing the copies", done: flow.copiedBytes, total, unit: "bytes" });
}

/** One pass: the archive streams out while the rows of the same snapshot are counted beside it. */
async function readDump(site: Site, dump: LogicalDump, archive: Archive, flow: Flow): Promise<TableRows[]> {
  await archive.addEntry("globals.sql", dump.globals());
  let counting: Promise<TableRows[]> | undefined;
  const count = (): void => {
    counting = dump.rowCounts(() => undefined);
    counting.catch(() => undefined); // awaited below, once the dump is through
  };
  const entry = await archive.addEntry("database.pgdump", watched(site, dump, flow, count));
  if (entry.bytes === 0 || counting === undefined)
    throw new JBackupError("tool_failed", "pg_dump wrote nothing");
  return counting;
}

async function* watched(
  site: Site,
  dump: LogicalDump,
  flow: Flow,
  onBegun: () => void,
): AsyncGenerator<Buffer> {
  let done = 0;
  let isFirst = true;
  for await (const chunk of dump.archive()) {
    done += chunk.length;
    // text is often larger or smaller than the tables it comes from: the total is an estimate until it is passed
    const total = done < dump.database.bytes ? dump.database.bytes : null;
    const ratio = ratioOf(done, flow.sealedBytes);
    site.report.progress({
      task: `dumping ${dump.database.name}`,
      done,
      total,
      unit: "bytes",
      ...(ratio === null ? {} : { extra: `${ratio.toFixed(1)} times smaller` }),
    });
    if (isFirst) {
      onBegun();
      site.step("dumping");
    }
    isFirst = false;
    yield chunk;
  }
}

const MIB = 2 ** 20;

/** Small packs keep memory low, large ones keep requests few. */
const packBytesFor = (databaseBytes: number): number =>
  Math.min(32 * MIB, Math.max(8 * MIB, Math.ceil(databaseBytes / 8192 / MIB) * MIB));

const logicalFacts = (dump: LogicalDump): Record<string, unknown> => ({
  serverMajor: dump.server.major,
  clientMajor: dump.clientMajor,
  database: dump.database,
  roles: dump.roles,
  tablespaces: dump.tablespaces,
  extensions: dump.extensions,
});

async function describe(
  site: Site,
  draft: Backup,
  dump: LogicalDump,
  finished: FinishedArchive,
  keyCommitment: string,
  tables: TableRows[],
): Promise<ManifestBody> {
  const end = await chainEnd(site);
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
    server: {
      version: dump.server.version,
      versionNum: dump.server.versionNum,
      systemId: dump.server.systemId,
    },
    timeline: null,
    startLsn: null,
    endLsn: null,
    parentId: null,
    keyCommitment,
    codec: site.config.compression.codec,
    rawBytes: finished.rawBytes,
    storedBytes: finished.storedBytes,
    objects: finished.objects,
    note: draft.note,
    warnings: dump.warnings,
    metadata: {
      database: dump.database.name,
      databaseBytes: dump.database.bytes,
      tables: tables.length,
      rows: tables.reduce((sum, { rows }) => sum + rows, 0),
      compressionRatio: ratioOf(finished.rawBytes, finished.storedBytes),
    },
  };
}

function copiesOf(site: Site, folder: string, bytes: number, holding: string[]): Copy[] {
  return site.config.storages.map(({ name, kind }) => ({
    storage: name,
    kind,
    status: holding.includes(name) ? "stored" : "missing",
    path: folder,
    bytes: holding.includes(name) ? bytes : 0,
    verifiedAt: null,
  }));
}
