import type { Transaction } from "kysely";
import type { Alert, AuditEntry, Backup, Drill, Restore, Run, Verification } from "../domain/backup.js";
import { appendToChain, checkChain } from "./audit.js";
import { findBackups, lastOfTenants, saveBackups } from "./backups.js";
import type { AlertFilter, AuditCheck, BackupFilter, Catalog, RestoreFilter, RunFilter } from "./catalog.js";
import { type CatalogDatabase, reading } from "./database.js";
import { alertQuery, restoreQuery, runQuery } from "./queries.js";
import { upsert } from "./records.js";
import { fromRow, plainText, toRow } from "./rows.js";
import { migrateTables } from "./schema.js";
import {
  alertLayout,
  auditLayout,
  drillLayout,
  restoreLayout,
  runLayout,
  type Tables,
  verificationLayout,
} from "./tables.js";

/** The catalog over either database. */
export class KyselyCatalog implements Catalog {
  readonly #database: CatalogDatabase;

  constructor(database: CatalogDatabase) {
    this.#database = database;
  }

  get location(): string {
    return this.#database.location;
  }

  saveBackups(backups: Backup[]): Promise<void> {
    return this.#write((db) => saveBackups(db, backups));
  }

  saveRestore(restore: Restore): Promise<void> {
    return this.#write((db) => upsert(db, "restores", [toRow(restoreLayout, restore)]));
  }

  saveVerification(verification: Verification): Promise<void> {
    return this.#write((db) => upsert(db, "verifications", [toRow(verificationLayout, verification)]));
  }

  saveAlert(alert: Alert): Promise<void> {
    return this.#write((db) => upsert(db, "alerts", [toRow(alertLayout, alert)]));
  }

  saveRun(run: Run): Promise<void> {
    return this.#write((db) => upsert(db, "runs", [toRow(runLayout, run)]));
  }

  saveDrill(drill: Drill): Promise<void> {
    return this.#write((db) => upsert(db, "drills", [toRow(drillLayout, drill)]));
  }

  appendAudit(entry: AuditEntry): Promise<void> {
    return this.#write(async (db) => {
      await this.#database.lockAudit(db);
      await appendToChain(db, entry);
    });
  }

  backups(filter: BackupFilter = {}): Promise<Backup[]> {
    return this.#guard((db) => reading(db, (transaction) => findBackups(transaction, filter)));
  }

  lastOfTenants(ids: string[] | "all"): Promise<Backup[]> {
    return this.#guard((db) => reading(db, (transaction) => lastOfTenants(transaction, ids)));
  }

  async restores(filter: RestoreFilter = {}): Promise<Restore[]> {
    const rows = await this.#guard((db) => restoreQuery(db, filter).execute());
    return rows.map((row) => fromRow(restoreLayout, row));
  }

  async verifications(backupId: string): Promise<Verification[]> {
    const rows = await this.#guard((db) =>
      db
        .selectFrom("verifications")
        .selectAll()
        .where("backup_id", "=", plainText(backupId))
        .orderBy("checked_at", "desc")
        .orderBy("id", "desc")
        .execute(),
    );
    return rows.map((row) => fromRow(verificationLayout, row));
  }

  async alerts(filter: AlertFilter = {}): Promise<Alert[]> {
    const rows = await this.#guard((db) => alertQuery(db, filter).execute());
    return rows.map((row) => fromRow(alertLayout, row));
  }

  async runs(filter: RunFilter = {}): Promise<Run[]> {
    const rows = await this.#guard((db) => runQuery(db, filter).execute());
    return rows.map((row) => fromRow(runLayout, row));
  }

  async drills(runbook?: string): Promise<Drill[]> {
    const rows = await this.#guard((db) => {
      const all = db.selectFrom("drills").selectAll().orderBy("started_at", "desc").orderBy("id", "desc");
      return (runbook === undefined ? all : all.where("runbook", "=", plainText(runbook))).execute();
    });
    return rows.map((row) => fromRow(drillLayout, row));
  }

  async audit(limit?: number): Promise<AuditEntry[]> {
    const rows = await this.#guard((db) => {
      const all = db.selectFrom("audit").selectAll().orderBy("sequence", "desc");
      return (limit === undefined ? all : all.limit(limit)).execute();
    });
    return rows.map((row) => fromRow(auditLayout, row));
  }

  checkAudit(): Promise<AuditCheck> {
    return this.#guard((db) => reading(db, checkChain));
  }

  migrate(): Promise<string[]> {
    return this.#guard(() => migrateTables(this.#database));
  }

  close(): Promise<void> {
    return this.#guard((db) => db.destroy());
  }

  #write(work: (db: Transaction<Tables>) => Promise<void>): Promise<void> {
    return this.#guard((db) => db.transaction().execute(work));
  }

  async #guard<Result>(work: (db: CatalogDatabase["db"]) => Promise<Result>): Promise<Result> {
    try {
      return await work(this.#database.db);
    } catch (error) {
      throw this.#database.translate(error);
    }
  }
}
