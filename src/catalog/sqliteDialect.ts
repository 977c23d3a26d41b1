import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { setTimeout as pause } from "node:timers/promises";
import {
  CompiledQuery,
  type DatabaseConnection,
  SqliteAdapter,
  type SqliteDatabase,
  SqliteDialect,
  SqliteDriver,
  type SqliteStatement,
  type TransactionSettings,
} from "kysely";
import type { Clock } from "../sys/clock.js";

/** How long anything waits for another process that holds the database. */
export const BUSY_MS = 10_000;

const SQLITE_BUSY = 5;

/** SQLite's code without its finer distinctions; undefined for what did not come from SQLite. */
export function sqliteCodeOf(error: unknown): number | undefined {
  const errcode = (error as { errcode?: unknown } | null)?.errcode;
  return typeof errcode === "number" ? errcode & 0xff : undefined;
}

export const isBusy = (error: unknown): boolean => sqliteCodeOf(error) === SQLITE_BUSY;

/** Tries until the database is free. SQLite's own waiting would stop this whole process, perhaps the one that holds it. */
export async function patiently<Result>(clock: Clock, attempt: () => Promise<Result>): Promise<Result> {
  const deadline = clock.monotonicMs() + BUSY_MS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!isBusy(error) || clock.monotonicMs() > deadline) throw error;
      await pause(5);
    }
  }
}

/** Kysely's SQLite dialect on Node's own SQLite. */
export class CatalogSqliteDialect extends SqliteDialect {
  readonly #database: SqliteDatabase;
  readonly #clock: Clock;

  constructor(database: DatabaseSync, clock: Clock) {
    const adapted = adapt(database);
    super({ database: adapted });
    this.#database = adapted;
    this.#clock = clock;
  }

  override createDriver(): SqliteDriver {
    return new EagerDriver(this.#database, this.#clock);
  }

  override createAdapter(): SqliteAdapter {
    return new TransactionalAdapter();
  }
}

/**
 * A transaction that begins by reading and then writes fails at once, without waiting, if another process wrote in
 * between. So transactions take the write lock first, where waiting works, unless they say that they only read.
 */
class EagerDriver extends SqliteDriver {
  readonly #clock: Clock;

  constructor(database: SqliteDatabase, clock: Clock) {
    super({ database });
    this.#clock = clock;
  }

  override async beginTransaction(
    connection: DatabaseConnection,
    wanted?: TransactionSettings,
  ): Promise<void> {
    const run = (text: string): Promise<unknown> => connection.executeQuery(CompiledQuery.raw(text));
    if (wanted?.accessMode === "read only") return void (await run("begin"));
    await run("pragma busy_timeout = 0");
    try {
      await patiently(this.#clock, () => run("begin immediate"));
    } finally {
      await run(`pragma busy_timeout = ${BUSY_MS}`);
    }
  }
}

/** SQLite can change its schema inside a transaction; Kysely is only cautious. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** Older Nodes leave the end of a statement to the collection of garbage. */
type Closable = StatementSync & { close?(): void };

/** node:sqlite in the shape of better-sqlite3, which Kysely expects. */
export function adapt(database: DatabaseSync): SqliteDatabase {
  return {
    close: () => database.close(),
    prepare: (text): SqliteStatement => {
      const statement: Closable = database.prepare(text);
      // Kysely uses each once; those for hundreds of rows take a lot of memory, of which V8 knows nothing
      const once = <Result>(use: () => Result): Result => {
        try {
          return use();
        } finally {
          statement.close?.();
        }
      };
      return {
        reader: statement.columns().length > 0,
        all: (parameters) => once(() => statement.all(...inputs(parameters))),
        run: (parameters) => once(() => statement.run(...inputs(parameters))),
        iterate: (parameters) => statement.iterate(...inputs(parameters)),
      };
    },
  };
}

const inputs = (parameters: readonly unknown[]): SQLInputValue[] => parameters as SQLInputValue[];
