import type { Transaction } from "kysely";
import type {
  Alert,
  AuditEntry,
  Backup,
  ChainedEntry,
  Delivery,
  Drill,
  JobRequest,
  Pin,
  Restore,
  Run,
  Verification,
} from "../domain/backup.js";
import type { StorageMeasure, StorageUse } from "../domain/storageUse.js";
import type { Clock } from "../sys/clock.js";
import { appendToChain, checkChain, hashesAt } from "./audit.js";
import { findBackups, lastOfTenants, saveBackups } from "./backups.js";
import type {
  AlertFilter,
  AuditCheck,
  BackupFilter,
  Catalog,
  DeliveryFilter,
  JobRequestFilter,
  RestoreFilter,
  RunFilter,
  TenantPage,
  VerificationFilter,
} from "./catalog.js";
import { type CatalogDatabase, reading } from "./database.js";
import {
  alertQuery,
  deliveryQuery,
  jobRequestQuery,
  pinQuery,
  restoreQuery,
  runQuery,
  verificationQuery,
} from "./queries.js";
import { upsert } from "./records.js";
import { fromRow, isoTime, plainText, toRow } from "./rows.js";
import { migrateTables } from "./schema.js";
import {
  alertLayout,
  auditLayout,
  deliveryLayout,
  drillLayout,
  jobRequestLayout,
  pinLayout,
  restoreLayout,
  runLayout,
  type Tables,
  verificationLayout,
} from "./tables.js";
import { saveMeasure, storageUse } from "./usage.js";

/** The catalog over either database. */
export class KyselyCatalog implements Catalog {
  readonly #database: CatalogDatabase;
  readonly #clock: Clock;

  constructor(database: CatalogDatabase, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  get location(): string {
    return this.#database.location;
  }

  saveBackups(backups: Backup[]): Promise<void> {
    return this.#write((db) => saveBackups(db, backups, this.#today()));
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

  savePin(pin: Pin): Promise<void> {
    return this.#write((db) => upsert(db, "pins", [toRow(pinLayout, pin)]));
  }

  saveDelivery(delivery: Delivery): Promise<void> {
    return this.#write((db) => upsert(db, "deliveries", [toRow(deliveryLayout, delivery)]));
  }

  saveJobRequest(request: JobRequest): Promise<void> {
    return this.#write((db) => upsert(db, "job_requests", [toRow(jobRequestLayout, request)]));
  }

  saveMeasure(measure: StorageMeasure): Promise<void> {
    return this.#write((db) => saveMeasure(db, measure));
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

  lastOfTenants(tenants: string[] | TenantPage): Promise<Backup[]> {
    return this.#guard((db) => reading(db, (transaction) => lastOfTenants(transaction, tenants)));
  }

  storageUse(sinceDay: string): Promise<StorageUse[]> {
    return this.#guard((db) => reading(db, (transaction) => storageUse(transaction, sinceDay)));
  }

  async restores(filter: RestoreFilter = {}): Promise<Restore[]> {
    const rows = await this.#guard((db) => restoreQuery(db, filter).execute());
    return rows.map((row) => fromRow(restoreLayout, row));
  }

  async verifications(filter: VerificationFilter = {}): Promise<Verification[]> {
    const rows = await this.#guard((db) => verificationQuery(db, filter).execute());
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

  async drills(runbook?: string, limit?: number): Promise<Drill[]> {
    const rows = await this.#guard((db) => {
      let query = db.selectFrom("drills").selectAll().orderBy("started_at", "desc").orderBy("id", "desc");
      if (runbook !== undefined) query = query.where("runbook", "=", plainText(runbook));
      return (limit === undefined ? query : query.limit(limit)).execute();
    });
    return rows.map((row) => fromRow(drillLayout, row));
  }

  async pins(heldAt: string | null): Promise<Pin[]> {
    const rows = await this.#guard((db) => pinQuery(db, heldAt).execute());
    return rows.map((row) => fromRow(pinLayout, row));
  }

  async deliveries(filter: DeliveryFilter = {}): Promise<Delivery[]> {
    const rows = await this.#guard((db) => deliveryQuery(db, filter).execute());
    return rows.map((row) => fromRow(deliveryLayout, row));
  }

  async jobRequests(filter: JobRequestFilter = {}): Promise<JobRequest[]> {
    const rows = await this.#guard((db) => jobRequestQuery(db, filter).execute());
    return rows.map((row) => fromRow(jobRequestLayout, row));
  }

  async claimJobRequest(id: string, by: string, at: string): Promise<boolean> {
    const result = await this.#guard((db) =>
      db
        .updateTable("job_requests")
        .set({ status: "claimed", claimed_by: plainText(by), claimed_at: isoTime(at) })
        .where("id", "=", plainText(id))
        .where("status", "=", "waiting")
        .executeTakeFirst(),
    );
    return Number(result.numUpdatedRows) === 1;
  }

  async audit(limit?: number, action?: string): Promise<ChainedEntry[]> {
    const rows = await this.#guard((db) => {
      let query = db.selectFrom("audit").selectAll().orderBy("sequence", "desc");
      if (action !== undefined) query = query.where("action", "=", plainText(action));
      return (limit === undefined ? query : query.limit(limit)).execute();
    });
    return rows.map((row) => ({
      ...fromRow(auditLayout, row),
      sequence: row.sequence,
      previousHash: row.previous_hash,
      hash: row.hash,
    }));
  }

  checkAudit(): Promise<AuditCheck> {
    return this.#guard((db) => reading(db, checkChain));
  }

  auditHashes(numbers: number[]): Promise<Map<number, string>> {
    return this.#guard((db) => hashesAt(db, numbers));
  }

  migrate(): Promise<string[]> {
    return this.#guard(() => migrateTables(this.#database));
  }

  close(): Promise<void> {
    return this.#guard((db) => db.destroy());
  }

  #today(): string {
    return this.#clock.now().toISOString().slice(0, 10);
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
