import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { Secret } from "../domain/secret.js";
import type { ServerCheckup } from "../domain/serverDiagnosis.js";
import { askReadOnly } from "./askReadOnly.js";
import { readCheckup } from "./checkup.js";
import { addressOf, connect, type Session, type Target } from "./connection.js";
import { serverFacts } from "./facts.js";
import { dropDatabase, sweepHalfRestored } from "./halfRestored.js";
import { runRestore } from "./loadArchive.js";
import { type LogicalDump, openLogicalDump } from "./logicalDump.js";
import { mergeDatabase } from "./merge.js";
import { requireTables } from "./mergeTables.js";
import { createMissingRoles } from "./missingRoles.js";
import { type BaseBackup, openBaseBackup } from "./physical/baseBackup.js";
import { openReplication } from "./physical/replication.js";
import { openServerConfig, type ServerConfig } from "./serverConfig.js";
import * as restoring from "./sideDatabase.js";
import { amcheck, type Soundness } from "./soundness.js";
import { auditTenants } from "./tenant/audit.js";
import * as tenantReading from "./tenant/readTenants.js";
import { removeTenant } from "./tenant/remove.js";
import { restoreTenantRows } from "./tenant/restore.js";
import { readTenantSchema } from "./tenant/schema.js";
import { openTenantSnapshot } from "./tenant/snapshot.js";
import { findBinDirectories, type ToolEnvironment } from "./tools.js";
import { walHealth } from "./walHealth.js";
import { openWalReceiver, type WalReceiver } from "./walReceiver.js";
import * as walServer from "./walServer.js";

export { passwordIn, type Session } from "./connection.js";
export type { DatabaseFacts, ServerFacts, TableRows } from "./facts.js";
export type { LogicalDump } from "./logicalDump.js";
export type { BaseBackup, StoppedBackup } from "./physical/baseBackup.js";
export type { ChangedPages } from "./physical/changedPages.js";
export type { FilePart, SourceFile } from "./physical/sourceFile.js";
export { readDumpThrough } from "./readDump.js";
export {
  isRunning,
  type RestoredCluster,
  type RestoredSettings,
  serverOn,
  startRestored,
  startServer,
  stopServer,
} from "./restoredCluster.js";
export {
  makeScratchFolder,
  type ScratchCluster,
  startScratchCluster,
  startThrowawayCluster,
  sweepScratchClusters,
  unprivilegedOwner,
} from "./scratchCluster.js";
export type { ServerConfig } from "./serverConfig.js";
export { findLocalServers, type LocalServer, lookAtServer, type ServerLook } from "./serverLook.js";
export type { DumpFacts, RestoreRun } from "./sideDatabase.js";
export { checkPageChecksums, type Soundness } from "./soundness.js";
export type { Finding } from "./tenant/audit.js";
export type { Graph as TenantGraph, OwnedTable } from "./tenant/ownership.js";
export { activeCondition, policySettings } from "./tenant/policySettings.js";
export type { Disagreement, ReadRows, ReadTable, RowsByTenant } from "./tenant/readTenants.js";
export type { TenantPlan, TenantProof, TenantRestored, TenantRestoring } from "./tenant/restore.js";
export type { TenantReference, TenantTable } from "./tenant/schema.js";
export type { TenantSnapshot } from "./tenant/snapshot.js";
export { findBinDirectories, type ToolEnvironment } from "./tools.js";
export type { WalHealth } from "./walHealth.js";
export type { TimelineEnd, WalReceiver } from "./walReceiver.js";
export type { Slot, WalServer } from "./walServer.js";

export interface PostgresSettings {
  url: Secret;
  /** Who connects when the address names nobody. */
  user: string;
  binDirectory: string | "auto";
  /** Where the cluster's files are, when not where the server says. */
  dataDirectory: string | "auto";
  environment: ToolEnvironment;
  signal: AbortSignal;
  /** The wall clock: the server is told when it is answered. */
  nowMs(): number;
}

/** The server of a site, as the use cases see it. */
export interface Postgres {
  /** The database that the configuration protects. */
  readonly database: string;
  connect(database?: string): Promise<Session>;
  /** A session on a maintenance database, never on the one that is worked on. */
  admin(): Promise<Session>;
  openDump(): Promise<LogicalDump>;
  /** What must be true of the server and of our role on it; nothing is changed. */
  checkup(ownSlot: string): Promise<ServerCheckup>;
  /** The major versions of a program that this host has, newest first. */
  programs(name: string): Promise<number[]>;
  /** How the server is set up, beside what is in its databases. */
  openConfig(): Promise<ServerConfig>;
  /** Begins a backup of the cluster's files. */
  openBaseBackup(label: string): Promise<BaseBackup>;
  readonly wal: WalSteps;
  readonly restoring: RestoreSteps;
  readonly tenants: TenantSteps;
  /** Looks into every database of the server with pg_amcheck, which it may install there: only for servers of our own. */
  amcheck(major: number): Promise<Soundness>;
  /** A query of the operator's, which cannot write and must not take long. */
  ask: typeof askReadOnly;
}

/** What telling tenants apart asks of the server. */
export interface TenantSteps {
  server: typeof serverFacts;
  readSchema: typeof readTenantSchema;
  openSnapshot: typeof openTenantSnapshot;
  tablesToRead: typeof tenantReading.tablesToRead;
  readMany: typeof tenantReading.readMany;
  readOne: typeof tenantReading.readOne;
  countByTenant: typeof tenantReading.countByTenant;
  disagreements: typeof tenantReading.disagreements;
  countLines: typeof tenantReading.countLines;
  restore: typeof restoreTenantRows;
  remove: typeof removeTenant;
  audit: typeof auditTenants;
}

/** What archiving asks of the server. */
export interface WalSteps {
  server(session: Session): Promise<walServer.WalServer>;
  findSlot: typeof walServer.findSlot;
  makeSlot: typeof walServer.makeSlot;
  advanceSlot: typeof walServer.advanceSlot;
  endOfWal: typeof walServer.endOfWal;
  heartbeat: typeof walServer.heartbeat;
  isSynchronous: typeof walServer.isSynchronous;
  segmentsThere: typeof walServer.segmentsThere;
  segmentsOnServer: typeof walServer.segmentsOnServer;
  readWalFile: typeof walServer.readWalFile;
  health: typeof walHealth;
  receiver(applicationName: string): Promise<WalReceiver>;
}

type Settings = restoring.RestoreSettings;

/** The steps of bringing a logical backup back; engine/restore.ts puts them in order. */
export interface RestoreSteps {
  exists: typeof restoring.databaseExists;
  checkTarget: typeof restoring.checkTarget;
  createMissingRoles: typeof createMissingRoles;
  createSide: typeof restoring.createSideDatabase;
  dress: typeof restoring.dressDatabase;
  swapIn: typeof restoring.swapIn;
  drop: typeof dropDatabase;
  sweep: typeof sweepHalfRestored;
  reopen: typeof restoring.reopenClosed;
  merge: typeof mergeDatabase;
  requireTables: typeof requireTables;
  load(run: restoring.RestoreRun, facts: restoring.DumpFacts, spacesMissing: boolean): Promise<void>;
  count(database: string): ReturnType<typeof restoring.countTarget>;
  analyze(database: string): Promise<void>;
}

export function openPostgres(given: PostgresSettings): Postgres {
  const target: Target = { url: given.url };
  const settings: Settings = { ...given, target };
  const { database } = addressOf(target, given.user);
  const admin = async (): Promise<Session> => {
    const places = ["postgres", "template1"].filter((name) => name !== database);
    for (const place of places) {
      try {
        return await connect({ ...target, database: place }, given.user);
      } catch (error) {
        if (!isJBackupError(error, "database_missing") || place === places.at(-1)) throw error;
      }
    }
    throw new JBackupError("bug", "no maintenance database to connect to");
  };
  return {
    database,
    connect: (name) => connect(name === undefined ? target : { ...target, database: name }, given.user),
    admin,
    openDump: () => openLogicalDump(settings),
    checkup: async (ownSlot) => {
      const session = await connect(target, given.user);
      try {
        const place = await walServer.walServer(session, given.dataDirectory).catch((error: unknown) => {
          if (isJBackupError(error)) return null; // a right that is missing is told by the checkup itself
          throw error;
        });
        const health = await walHealth(session, ownSlot, place?.walDirectory ?? null);
        return await readCheckup(session, ownSlot, health, given.nowMs);
      } finally {
        await session.close();
      }
    },
    programs: async (name) =>
      (await findBinDirectories(name, given.environment, given.binDirectory)).map(({ major }) => major),
    openConfig: () => openServerConfig(settings),
    openBaseBackup: (label) =>
      openBaseBackup({
        label,
        dataDirectory: given.dataDirectory,
        signal: given.signal,
        // rights on functions are granted in one database: the one that database.url names
        connect: () => connect(target, given.user),
        openReplication: () => openReplication(target, given.user),
      }),
    wal: {
      server: (session) => walServer.walServer(session, given.dataDirectory),
      findSlot: walServer.findSlot,
      makeSlot: walServer.makeSlot,
      advanceSlot: walServer.advanceSlot,
      endOfWal: walServer.endOfWal,
      heartbeat: walServer.heartbeat,
      isSynchronous: walServer.isSynchronous,
      segmentsThere: walServer.segmentsThere,
      segmentsOnServer: walServer.segmentsOnServer,
      readWalFile: walServer.readWalFile,
      health: walHealth,
      receiver: (name) => openWalReceiver(target, given.user, name, given.nowMs),
    },
    tenants: {
      ...tenantReading,
      server: serverFacts,
      readSchema: readTenantSchema,
      openSnapshot: openTenantSnapshot,
      restore: restoreTenantRows,
      remove: removeTenant,
      audit: auditTenants,
    },
    restoring: {
      exists: restoring.databaseExists,
      checkTarget: restoring.checkTarget,
      createMissingRoles,
      createSide: restoring.createSideDatabase,
      dress: restoring.dressDatabase,
      swapIn: restoring.swapIn,
      drop: dropDatabase,
      sweep: sweepHalfRestored,
      reopen: restoring.reopenClosed,
      merge: mergeDatabase,
      requireTables,
      load: (run, facts, spacesMissing) => runRestore(run, facts, settings, spacesMissing),
      count: (name) => restoring.countTarget(settings, name),
      analyze: (name) => restoring.analyzeTarget(settings, name),
    },
    amcheck: (major) => amcheck(settings, major),
    ask: askReadOnly,
  };
}
