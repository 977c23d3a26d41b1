import type {
  Alert,
  AlertSeverity,
  AlertStatus,
  AlertType,
  AuditEntry,
  Backup,
  BackupKind,
  BackupStatus,
  Drill,
  Restore,
  RestoreStatus,
  Run,
  Verification,
} from "../domain/backup.js";

export interface BackupFilter {
  kind?: BackupKind;
  status?: BackupStatus[];
  tenantId?: string;
  /** ISO times, compared with createdAt: since inclusive, until exclusive. */
  since?: string;
  until?: string;
  limit?: number;
  /** A full id or label, or the beginning of either. */
  reference?: string;
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
  status?: Run["status"][];
  limit?: number;
}

/**
 * The index of what was done. Everything in it can be lost: manifests are the truth for backups.
 *
 * Saving is an upsert of the whole record by id, atomic (a backup with its copies), idempotent, safe from several
 * processes at once. Queries answer newest first. Any trouble with the database itself is catalog_unavailable.
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
  appendAudit(entry: AuditEntry): Promise<void>;

  backups(filter?: BackupFilter): Promise<Backup[]>;
  restores(filter?: RestoreFilter): Promise<Restore[]>;
  verifications(backupId: string): Promise<Verification[]>;
  alerts(filter?: AlertFilter): Promise<Alert[]>;
  runs(filter?: RunFilter): Promise<Run[]>;
  drills(runbook?: string): Promise<Drill[]>;
  audit(limit?: number): Promise<AuditEntry[]>;

  /** Brings the schema up to date; answers the names of the migrations that ran. */
  migrate(): Promise<string[]>;
  close(): Promise<void>;
}
