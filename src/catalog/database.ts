import type { Kysely, Transaction } from "kysely";
import type { Tables } from "./tables.js";

/** What the two databases do differently; everything else is the same code. */
export interface CatalogDatabase {
  /** For people; never with a password. */
  readonly location: string;
  /** The tables, with the schema they live in already applied. */
  readonly db: Kysely<Tables>;
  /** Where Kysely keeps its list of migrations; undefined means the database's only schema. */
  readonly schema: string | undefined;
  /** Whether any migration ever ran here. */
  hasTables(): Promise<boolean>;
  /** Runs the work so that a second process migrating at the same moment waits for the first. */
  migrating<Result>(work: (db: Kysely<Tables>) => Promise<Result>): Promise<Result>;
  /** Held until the transaction ends: one appender at a time. */
  lockAudit(transaction: Transaction<Tables>): Promise<void>;
  /** The error to throw for anything that was caught: trouble with the database becomes catalog_unavailable. */
  translate(error: unknown): unknown;
}

export const HISTORY_TABLE = "migrations";

/** A consistent view of several tables. */
export const reading = <Result>(
  db: Kysely<Tables>,
  work: (transaction: Transaction<Tables>) => Promise<Result>,
): Promise<Result> =>
  db.transaction().setIsolationLevel("repeatable read").setAccessMode("read only").execute(work);
