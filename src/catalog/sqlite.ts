import { open } from "node:fs/promises";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Kysely, sql } from "kysely";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import { makeDirectory } from "../sys/atomicFile.js";
import type { Clock } from "../sys/clock.js";
import { type CatalogDatabase, HISTORY_TABLE } from "./database.js";
import { REBUILD_HINT } from "./rows.js";
import { BUSY_MS, CatalogSqliteDialect, isBusy, patiently, sqliteCodeOf } from "./sqliteDialect.js";
import type { Tables } from "./tables.js";

/** `path` is a file, or `:memory:` for a catalog that ends with the process. */
export async function openSqlite(path: string, clock: Clock): Promise<CatalogDatabase> {
  const location = `sqlite:${path}`;
  const translate = (error: unknown): unknown => translateSqlite(error, location);
  try {
    if (path !== ":memory:") await createPrivately(path);
    // The change to WAL mode does not wait for other connections as statements do.
    const database = await patiently(clock, async () => connect(path));
    const db = new Kysely<Tables>({ dialect: new CatalogSqliteDialect(database, clock) });
    return {
      location,
      db,
      schema: undefined,
      translate,
      hasTables: async () => {
        const found = sql`select 1 from sqlite_master where type = 'table' and name = ${HISTORY_TABLE}`;
        return (await found.execute(db)).rows.length > 0;
      },
      migrating: (work) => db.transaction().execute(work),
      // every writing transaction here holds SQLite's one write lock from its start
      lockAudit: async () => {},
    };
  } catch (error) {
    throw translate(error);
  }
}

/** SQLite gives its WAL and shared-memory files the mode of the database file, so that one must be right from the start. */
async function createPrivately(path: string): Promise<void> {
  await makeDirectory(dirname(path));
  try {
    // Only ever a new file: closing any other descriptor of an open database would drop this process's locks on it.
    await (await open(path, "wx", 0o600)).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

function connect(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true });
  try {
    database.exec(`pragma journal_mode = wal; pragma synchronous = full; pragma busy_timeout = ${BUSY_MS}`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;
const REFUSED_RECORD = new Set([18, 19, 20]); // too big, constraint, datatype mismatch

function translateSqlite(error: unknown, location: string): unknown {
  if (isJBackupError(error)) return error;
  const code = sqliteCodeOf(error);
  const reason = reasonOf(error);
  if (code === undefined) {
    if (!(error instanceof Error && "syscall" in error)) return error;
    const hint = "Check catalog.url, and that its directory exists and can be written.";
    return new JBackupError("catalog_unavailable", `cannot open the catalog ${location}: ${reason}`, {
      hint,
      cause: error,
    });
  }
  if (REFUSED_RECORD.has(code))
    return new JBackupError("conflict", `the catalog ${location} refused a record: ${reason}`, {
      cause: error,
    });
  if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB)
    return new JBackupError("catalog_unavailable", `the catalog ${location} is damaged: ${reason}`, {
      hint: REBUILD_HINT,
      cause: error,
    });
  const hint = isBusy(error)
    ? "Another process holds it for long: see who with `fuser`, then try again."
    : "Check catalog.url, the rights on the file and its directory, and the space left on its disk.";
  return new JBackupError("catalog_unavailable", `the catalog ${location} does not work: ${reason}`, {
    hint,
    cause: error,
  });
}
