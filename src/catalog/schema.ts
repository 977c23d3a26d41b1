import { sql } from "kysely";
import { Migrator } from "kysely/migration";
import { migrations } from "#migrations";
import { JBackupError } from "../domain/errors.js";
import { type CatalogDatabase, HISTORY_TABLE } from "./database.js";

/** The migrations that have not run yet. Refuses a catalog that a newer jbackup has changed. */
export async function pendingMigrations(database: CatalogDatabase): Promise<string[]> {
  const history = (await database.hasTables()) ? await historyOf(database) : [];
  const unknown = history.find((name) => !(name in migrations));
  if (unknown === undefined) return Object.keys(migrations).filter((name) => !history.includes(name));
  const message = `the catalog ${database.location} belongs to a newer jbackup: this one does not know its migration ${unknown}`;
  throw new JBackupError("version_mismatch", message, {
    hint: "Install the newer jbackup on this host too; the catalog was not changed.",
  });
}

/** Brings the tables up to date, and answers the names of the migrations that ran. */
export async function migrateTables(database: CatalogDatabase): Promise<string[]> {
  // Nearly always there is nothing to do, and then one look is all it costs: no lock, no walk through the schema.
  if ((await pendingMigrations(database)).length === 0) return [];
  return database.migrating(async (db) => {
    const migrator = new Migrator({
      db,
      provider: { getMigrations: async () => migrations },
      migrationTableName: HISTORY_TABLE,
      migrationLockTableName: `${HISTORY_TABLE}_lock`,
      ...(database.schema === undefined ? {} : { migrationTableSchema: database.schema }),
    });
    const { error, results = [] } = await migrator.migrateToLatest();
    if (error !== undefined) throw error;
    return results.map((result) => result.migrationName);
  });
}

async function historyOf(database: CatalogDatabase): Promise<string[]> {
  const table = sql.table(database.schema ? `${database.schema}.${HISTORY_TABLE}` : HISTORY_TABLE);
  const names = await sql<{ name: string }>`select name from ${table} order by name`.execute(database.db);
  return names.rows.map((row) => row.name);
}
