import type {
  Alert,
  AlertSeverity,
  AlertStatus,
  AlertType,
  AuditEntry,
  Backup,
  BackupKind,
  BackupStatus,
  ChainedEntry,
  Delivery,
  Drill,
  JobRequest,
  Pin,
  Restore,
  RestoreStatus,
  Run,
  Verification,
  VerificationLevel,
} from "../domain/backup.js";
import type { StorageMeasure, StorageUse } from "../domain/storageUse.js";

export interface BackupFilter {
  kind?: BackupKind;
  status?: BackupStatus[];
  tenantId?: string;
  /** ISO times, compared with createdAt: since inclusive, until exclusive. */
  since?: string;
  until?: string;
  limit?: number;
  /** The page behind the one that ended with this. */
  behind?: Pick<Backup, "createdAt" | "id">;
  /**
   * A full id or label; if nothing has that very name, the beginning of either. More than one answer means that
   * the caller must ask which. The empty reference names nothing.
   */
  reference?: string;
}

/** Of all tenants that have backups, as many as are wanted at a time: together they may be too many for memory. */
export interface TenantPage {
  /** The last one of the page before. */
  after: string | null;
  limit: number;
}

export interface RestoreFilter {
  backupId?: string;
  status?: RestoreStatus[];
  since?: string;
  limit?: number;
}

export interface AlertFilter {
  type?: AlertType;
  status?: AlertStatus[];
  severity?: AlertSeverity[];
  backupId?: string;
  fingerprint?: string;
  since?: string;
  limit?: number;
}

export interface RunFilter {
  job?: string;
  /** Otherwise the newest come first. */
  oldestFirst?: boolean;
  status?: Run["status"][];
  /** Only those that were about the whole of their job. */
  scope?: "whole";
  limit?: number;
}

export interface VerificationFilter {
  backupId?: string;
  level?: VerificationLevel;
  status?: Verification["status"];
  storage?: string;
  since?: string;
  limit?: number;
}

export interface DeliveryFilter {
  alertId?: string;
  channel?: string;
  status?: Delivery["status"][];
  limit?: number;
}

export interface JobRequestFilter {
  status?: JobRequest["status"][];
  /** Only those that are due by then. */
  dueBy?: string;
  limit?: number;
}

export interface AuditCheck {
  entries: number;
  /** The id of the first entry that was changed, or before which one was removed or slipped in. */
  brokenAt: string | null;
  /** The hash of the last entry. Kept elsewhere, as signed manifests do, it also shows when the end of the chain was cut off. */
  head: string | null;
}

/**
 * The index of what was done. Everything in it can be lost: manifests are the truth for backups.
 *
 * Saving is an upsert of the whole record by id, atomic (a backup with its copies), idempotent, safe from several
 * processes at once. Nothing compares old with new: which status wins is the caller's business. Queries answer newest
 * first. Any trouble with the database itself is catalog_unavailable; a record that the database refuses is conflict.
 */
export interface Catalog {
  /** Where it is, for people; without credentials. */
  readonly location: string;

  saveBackups(backups: Backup[]): Promise<void>;
  saveRestore(restore: Restore): Promise<void>;
  saveVerification(verification: Verification): Promise<void>;
  saveAlert(alert: Alert): Promise<void>;
  saveRun(run: Run): Promise<void>;
  saveDrill(drill: Drill): Promise<void>;
  savePin(pin: Pin): Promise<void>;
  saveDelivery(delivery: Delivery): Promise<void>;
  saveJobRequest(request: JobRequest): Promise<void>;
  /** What a storage was seen to hold: what is stored and removed from then on counts from there. */
  saveMeasure(measure: StorageMeasure): Promise<void>;
  /** Each entry is chained to the one before by its hash. The same entry twice is one; another under its id is conflict. */
  appendAudit(entry: AuditEntry): Promise<void>;

  backups(filter?: BackupFilter): Promise<Backup[]>;
  /** The newest usable backup of each tenant: of those named, or of those that come next in the order of their ids. */
  lastOfTenants(tenants: string[] | TenantPage): Promise<Backup[]>;
  /** What each storage holds, with the days from the given one on at whose end that had changed. */
  storageUse(sinceDay: string): Promise<StorageUse[]>;
  restores(filter?: RestoreFilter): Promise<Restore[]>;
  verifications(filter?: VerificationFilter): Promise<Verification[]>;
  alerts(filter?: AlertFilter): Promise<Alert[]>;
  runs(filter?: RunFilter): Promise<Run[]>;
  drills(runbook?: string, limit?: number): Promise<Drill[]>;
  /** Those that hold: not removed, and not past their end at that time. Null: all, also those that hold no more. */
  pins(heldAt: string | null): Promise<Pin[]>;
  deliveries(filter?: DeliveryFilter): Promise<Delivery[]>;
  /** Soonest first. */
  jobRequests(filter?: JobRequestFilter): Promise<JobRequest[]>;
  /** Takes a waiting request, unless somebody else has: of several who try, exactly one is told true. */
  claimJobRequest(id: string, by: string, at: string): Promise<boolean>;
  /** Of one action only, if it is named. */
  audit(limit?: number, action?: string): Promise<ChainedEntry[]>;
  checkAudit(): Promise<AuditCheck>;
  /** The hashes of entries by their numbers, which begin with 1; those that are not there are left out. */
  auditHashes(numbers: number[]): Promise<Map<number, string>>;

  /** Brings the schema up to date; answers the names of the migrations that ran. */
  migrate(): Promise<string[]>;
  close(): Promise<void>;
}
