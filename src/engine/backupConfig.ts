import { resolve } from "node:path";
import type { Backup } from "../domain/backup.js";
import {
  type ConfigDetail,
  type ConfigRecord,
  HOST,
  INSTALL_PLAN,
  type Missed,
} from "../domain/configBackup.js";
import { JBackupError, reasonOf } from "../domain/errors.js";
import { installPlan, type PlannedServer } from "../domain/installPlan.js";
import type { Archive } from "../format/format.js";
import type { ServerConfig, Session } from "../postgres/postgres.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { type BackupRequest, recorded } from "./backup/record.js";
import { type Filled, storeArchive } from "./backup/storeArchive.js";
import { hostFacts } from "./configFiles/host.js";
import { readFilesInto } from "./configFiles/readFiles.js";
import type { ScanNotes } from "./configFiles/scan.js";
import { addServer, addText, askServer } from "./configFiles/serverEntries.js";
import { withBackupRun } from "./hooks.js";
import { lockOnServer } from "./lock.js";
import type { RunContext } from "./run.js";
import type { Site } from "./site.js";
import { sealingKeys } from "./siteKeys.js";
import { storagesForWriting, sweepStorages } from "./useStorages.js";

export const JOB = "backup-config";

/** Configuration is small: this much is only a guess for the room that it takes. */
const EXPECTED_BYTES = 2 ** 20;

/** Whether something that should be in it is not. */
export const isPartial = ({ metadata }: Backup): boolean => Number(metadata.missed ?? 0) > 0;

/** The host's configuration files and what the server says of itself: enough to set up a bare host. Works without the server, too. */
export const backupConfig = (site: Site, request: BackupRequest): Promise<Backup> =>
  withBackupRun(site, JOB, "config", (run) => take(site, run, request), {
    judge: (done) => (isPartial(done) ? "partial" : "succeeded"),
  });

async function take(site: Site, run: RunContext, { note }: BackupRequest): Promise<Backup> {
  const what = { job: JOB, kind: "config", method: null, note } as const;
  const keys = await sealingKeys(site);
  const storages = await storagesForWriting(site);
  const admin = await lockedSession(site);
  try {
    // without the server's lock nobody knows whether a run on another host still lives
    if (admin !== null) {
      await run.settleKilled();
      await sweepStorages(site, storages.usable, "backups/config/");
    }
    const done = await recorded(site, run, what, async (draft) => {
      const server = await askServer(site);
      const notes: ScanNotes = { missed: [], notes: [] };
      try {
        const stored = await storeArchive(site, draft, keys, storages, {
          expectedBytes: EXPECTED_BYTES,
          fill: (archive) => fill(site, draft, archive, server, notes),
        });
        return { ...stored, warnings: warningsOf(notes) };
      } finally {
        if (!(server instanceof JBackupError)) await server.close();
      }
    });
    await tellMissing(site, done);
    return done;
  } finally {
    await admin?.close();
  }
}

/** At night nobody reads warnings. */
async function tellMissing(site: Site, done: Backup): Promise<void> {
  const fingerprint = `partial:${JOB}`;
  if (!isPartial(done)) {
    await resolveAlert(site, fingerprint, `backup ${done.label} has all of it`);
    return;
  }
  await raiseAlert(site, {
    type: "BACKUP_FAILURE",
    severity: "warning",
    fingerprint,
    message: `backup ${done.label} lacks something: ${done.warnings[0]}`,
    hint: `jbackup show ${done.label} names all of it; correct configFiles, or let jbackup read it`,
    backupId: done.id,
  });
}

/** A second host's run must wait while this one is at work; a server that is down stops nobody. */
async function lockedSession(site: Site): Promise<Session | null> {
  let admin: Session;
  try {
    admin = await (await site.postgres()).admin();
  } catch (error) {
    site.signal.throwIfAborted();
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    return null;
  }
  try {
    await lockOnServer(site, admin, JOB);
    return admin;
  } catch (error) {
    await admin.close();
    throw error;
  }
}

async function fill(
  site: Site,
  draft: Backup,
  archive: Archive,
  server: ServerConfig | JBackupError,
  notes: ScanNotes,
): Promise<Filled> {
  const { config } = site;
  const paths = [config.file, ...config.configFiles];
  const except = config.storages.flatMap((storage) =>
    storage.kind === "local" ? [resolve(storage.path)] : [],
  );
  const records = await readFilesInto(site, archive, { paths, except }, notes);
  site.step("files-read");
  let planned: PlannedServer | null = null;
  if (server instanceof JBackupError)
    notes.missed.push({ path: "what the server says of itself", why: reasonOf(server) });
  else planned = await addServer(site, archive, server, notes);
  const host = await hostFacts(site);
  await addText(archive, HOST, `${JSON.stringify(host, null, 2)}\n`);
  const plan = installPlan({
    site: config.site,
    label: draft.label,
    takenAt: draft.createdAt,
    configFile: config.file,
    host,
    server: planned,
    owners: ownersOf(records),
    roots: config.configFiles,
  });
  await addText(archive, INSTALL_PLAN, plan);
  return filledWith(site, records, server, notes);
}

const ownersOf = (records: readonly ConfigRecord[]): string[] =>
  [...new Set(records.map(({ user, uid }) => user ?? String(uid)))].filter((name) => name !== "root").sort();

function filledWith(
  site: Site,
  records: ConfigRecord[],
  server: ServerConfig | JBackupError,
  { missed, notes }: ScanNotes,
): Filled {
  const facts = server instanceof JBackupError ? null : server.server;
  const detail: ConfigDetail = {
    host: site.environment.host,
    roots: site.config.configFiles,
    records,
    missed,
    server: facts === null ? null : [facts.version],
  };
  const files = records.filter(({ kind }) => kind === "file").length;
  return {
    server:
      facts === null
        ? null
        : { version: facts.version, versionNum: facts.versionNum, systemId: facts.systemId },
    timeline: null,
    startLsn: null,
    endLsn: null,
    parentId: null,
    // names of files are for those who hold a key; the catalog of this site has them, the manifest has not
    warnings:
      missed.length === 0
        ? []
        : [`${missed.length} things that should be here are missing; its sealed contents name them`],
    metadata: { files, missed: missed.length, notes: notes.length, hasServer: facts !== null },
    detail: { config: detail },
  };
}

const MOST_NAMED = 50;

export const missedText = ({ path, why }: Missed): string => `${path} is missing: ${why}`;

function warningsOf({ missed, notes }: ScanNotes): string[] {
  const all = [...missed.map(missedText), ...notes];
  if (all.length <= MOST_NAMED) return all;
  return [...all.slice(0, MOST_NAMED), `and ${all.length - MOST_NAMED} more, which jbackup show tells`];
}
