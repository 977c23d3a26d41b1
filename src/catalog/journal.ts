import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { Clock } from "../sys/clock.js";
import type { AuditCheck, Catalog } from "./catalog.js";
import { JournalFile } from "./journalFile.js";
import { replayJournals } from "./replay.js";

export interface JournalOptions {
  clock: Clock;
  /** What `location` says until the catalog is open. */
  location: string;
  /** Told once when the catalog goes down, and of every record that could not be replayed. */
  onTrouble?: (trouble: JBackupError) => void;
  /** How long a catalog that is down is left alone: every try may cost a time-out. */
  retryAfterMs?: number;
}

export type Write =
  | "saveBackups"
  | "saveRestore"
  | "saveVerification"
  | "saveAlert"
  | "saveRun"
  | "saveDrill"
  | "savePin"
  | "saveDelivery"
  | "saveJobRequest"
  | "saveMeasure"
  | "appendAudit";

/**
 * A catalog that never stops a backup. While it is unavailable, writes go durably into a journal in `directory` (one
 * directory per catalog), and reads reject with catalog_unavailable. The next opening that succeeds, in any process,
 * replays what was journaled before it answers anything: a newer record can never be overwritten by an older one of
 * the same process. A record may be replayed twice, which is harmless because every write is idempotent.
 */
export function withJournal(
  open: () => Promise<Catalog>,
  directory: string,
  options: JournalOptions,
): Catalog {
  return new JournaledCatalog(open, directory, options);
}

class JournaledCatalog implements Catalog {
  readonly #open: () => Promise<Catalog>;
  readonly #directory: string;
  readonly #options: JournalOptions;
  readonly #file: JournalFile;
  #catalog: Catalog | undefined;
  #trouble: { error: JBackupError; retryAtMs: number } | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #isFullTold = false;

  constructor(open: () => Promise<Catalog>, directory: string, options: JournalOptions) {
    this.#open = open;
    this.#directory = directory;
    this.#options = options;
    this.#file = new JournalFile(directory, options.clock);
  }

  get location(): string {
    return this.#catalog?.location ?? this.#options.location;
  }

  saveBackups: Catalog["saveBackups"] = (backups) => this.#write("saveBackups", backups);
  saveRestore: Catalog["saveRestore"] = (restore) => this.#write("saveRestore", restore);
  saveVerification: Catalog["saveVerification"] = (found) => this.#write("saveVerification", found);
  saveAlert: Catalog["saveAlert"] = (alert) => this.#write("saveAlert", alert);
  saveRun: Catalog["saveRun"] = (run) => this.#write("saveRun", run);
  saveDrill: Catalog["saveDrill"] = (drill) => this.#write("saveDrill", drill);
  savePin: Catalog["savePin"] = (pin) => this.#write("savePin", pin);
  saveDelivery: Catalog["saveDelivery"] = (delivery) => this.#write("saveDelivery", delivery);
  saveJobRequest: Catalog["saveJobRequest"] = (request) => this.#write("saveJobRequest", request);
  saveMeasure: Catalog["saveMeasure"] = (measure) => this.#write("saveMeasure", measure);
  appendAudit: Catalog["appendAudit"] = (entry) => this.#write("appendAudit", entry);

  backups: Catalog["backups"] = (filter) => this.#ask((catalog) => catalog.backups(filter));
  lastOfTenants: Catalog["lastOfTenants"] = (ids) => this.#ask((catalog) => catalog.lastOfTenants(ids));
  storageUse: Catalog["storageUse"] = (since) => this.#ask((catalog) => catalog.storageUse(since));
  restores: Catalog["restores"] = (filter) => this.#ask((catalog) => catalog.restores(filter));
  verifications: Catalog["verifications"] = (filter) => this.#ask((catalog) => catalog.verifications(filter));
  alerts: Catalog["alerts"] = (filter) => this.#ask((catalog) => catalog.alerts(filter));
  runs: Catalog["runs"] = (filter) => this.#ask((catalog) => catalog.runs(filter));
  drills: Catalog["drills"] = (runbook, limit) => this.#ask((catalog) => catalog.drills(runbook, limit));
  pins: Catalog["pins"] = (heldAt) => this.#ask((catalog) => catalog.pins(heldAt));
  deliveries: Catalog["deliveries"] = (filter) => this.#ask((catalog) => catalog.deliveries(filter));
  jobRequests: Catalog["jobRequests"] = (filter) => this.#ask((catalog) => catalog.jobRequests(filter));
  claimJobRequest: Catalog["claimJobRequest"] = (id, by, at) =>
    this.#ask((catalog) => catalog.claimJobRequest(id, by, at));
  audit: Catalog["audit"] = (limit, action) => this.#ask((catalog) => catalog.audit(limit, action));
  checkAudit = (): Promise<AuditCheck> => this.#ask((catalog) => catalog.checkAudit());
  auditHashes: Catalog["auditHashes"] = (numbers) => this.#ask((catalog) => catalog.auditHashes(numbers));
  migrate = (): Promise<string[]> => this.#ask((catalog) => catalog.migrate());

  close(): Promise<void> {
    return this.#inTurn(async () => {
      const catalog = this.#catalog;
      this.#catalog = undefined;
      await catalog?.close();
      // the last word of it: a disk that has room again takes it now
      await this.#file.flush().catch((error: unknown) => this.#tellLost(error));
    });
  }

  #tellFull(): void {
    if (this.#isFullTold) return;
    this.#isFullTold = true;
    const message = `the disk of ${this.#directory} is full: what is done is recorded when it has room again`;
    this.#options.onTrouble?.(new JBackupError("catalog_unavailable", message, { hint: ROOM_HINT }));
  }

  #tellLost(error: unknown): void {
    if (!isJBackupError(error)) throw error;
    const message = `what this run did could be recorded nowhere: ${error.message}`;
    const hint = `${ROOM_HINT}; then jbackup catalog rebuild finds the backups that were made`;
    this.#options.onTrouble?.(new JBackupError("catalog_unavailable", message, { hint, cause: error }));
  }

  #ask<Answer>(question: (catalog: Catalog) => Promise<Answer>): Promise<Answer> {
    return this.#inTurn(() => this.#tried(question));
  }

  #write(write: Write, record: unknown): Promise<void> {
    // As text at once: the caller may go on changing the record while others are in front.
    const line = `${JSON.stringify({ v: 1, write, record })}\n`;
    return this.#inTurn(async () => {
      try {
        await this.#tried((catalog) => (catalog[write] as (record: unknown) => Promise<void>)(record));
      } catch (error) {
        if (!isJBackupError(error, "catalog_unavailable")) throw error;
        if (!(await this.#file.append(line))) this.#tellFull();
      }
    });
  }

  /** One at a time, so that the order of the journal is the order in which things happened. */
  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #tried<Answer>(question: (catalog: Catalog) => Promise<Answer>): Promise<Answer> {
    try {
      return await question(await this.#ready());
    } catch (error) {
      if (isJBackupError(error, "catalog_unavailable")) this.#goDown(error);
      throw error;
    }
  }

  async #ready(): Promise<Catalog> {
    if (this.#catalog) return this.#catalog;
    const { clock, onTrouble } = this.#options;
    if (this.#trouble && clock.monotonicMs() < this.#trouble.retryAtMs) throw this.#trouble.error;
    await this.#file.flush(); // or what is in it would come behind what is newer
    const catalog = await this.#open();
    try {
      await replayJournals(this.#directory, catalog, onTrouble ?? (() => {}));
    } catch (error) {
      abandon(catalog);
      throw error;
    }
    this.#trouble = undefined;
    this.#catalog = catalog;
    return catalog;
  }

  #goDown(error: JBackupError): void {
    if (this.#trouble?.error === error) return;
    if (!this.#trouble) this.#options.onTrouble?.(error);
    const retryAtMs = this.#options.clock.monotonicMs() + (this.#options.retryAfterMs ?? RETRY_AFTER_MS);
    this.#trouble = { error, retryAtMs };
    if (this.#catalog) abandon(this.#catalog);
    this.#catalog = undefined;
  }
}

const ROOM_HINT = "make room on the disk of $JBACKUP_HOME";

const RETRY_AFTER_MS = 15_000;

/** Not waited for: saying goodbye to a server that no longer answers may take minutes, and its failure is known already. */
function abandon(catalog: Catalog): void {
  catalog.close().catch(() => {});
}
