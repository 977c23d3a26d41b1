import { CompiledQuery, Kysely, PostgresDialect, sql } from "kysely";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import { type CatalogDatabase, HISTORY_TABLE } from "./database.js";
import { parsePostgresUrl } from "./postgresUrl.js";
import type { Tables } from "./tables.js";

const SCHEMA = "jbackup";
const AUDIT_LOCK = 7_241_906_113;
const INT8 = 20;

/** A schema of its own, so that the catalog may live inside any database. */
export async function openPostgres(url: string): Promise<CatalogDatabase> {
  const { default: pg } = await import("pg");
  const { location, config } = parsePostgresUrl(url);
  const pool = new pg.Pool({
    ...config,
    max: 3,
    application_name: "jbackup catalog",
    connectionTimeoutMillis: 10_000,
    idleTimeoutMillis: 10_000,
    allowExitOnIdle: true,
    keepAlive: true,
    // The server gives up first; this one is for a connection that died without a word.
    query_timeout: 45_000,
    types: {
      getTypeParser: (id: number, format: "text" | "binary" = "text") =>
        id === INT8 ? Number : pg.types.getTypeParser(id, format),
    },
  });
  // An idle connection that breaks is replaced when the next query needs one; unheard, its error would end the process.
  pool.on("error", () => {});

  const bare = new Kysely<Tables>({
    dialect: new PostgresDialect({
      pool,
      // By SQL rather than as start-up parameters, which connection poolers refuse. And no commit of ours waits for a standby:
      // that may be our own follower, which writes its records here before it can answer.
      onCreateConnection: async (connection) => {
        await connection.executeQuery(
          CompiledQuery.raw(`select set_config('statement_timeout', '30s', false),
            set_config('idle_in_transaction_session_timeout', '60s', false),
            set_config('timezone', 'UTC', false)`),
        );
        await connection.executeQuery(
          CompiledQuery.raw(
            "select set_config('synchronous_commit', 'local', false) where current_setting('synchronous_commit') <> 'off'",
          ),
        );
      },
    }),
  });
  return {
    location,
    db: bare.withSchema(SCHEMA),
    schema: SCHEMA,
    translate: (error) => translatePostgres(error, location),
    hasTables: async () => {
      const found = sql<{
        found: string | null;
      }>`select to_regclass(${`${SCHEMA}.${HISTORY_TABLE}`}) as found`;
      return (await found.execute(bare)).rows[0]?.found != null;
    },
    // Kysely's Migrator takes an advisory lock around its transaction
    migrating: (work) => work(bare.withSchema(SCHEMA)),
    lockAudit: async (transaction) => {
      await sql`select pg_advisory_xact_lock(${AUDIT_LOCK})`.execute(transaction);
    },
  };
}

const HINTS: Record<string, string> = {
  "28P01": "Check the user and the password in catalog.url.",
  "28000": "Check the user in catalog.url and the server's pg_hba.conf.",
  "3D000": "Create that database, or name an existing one in catalog.url.",
  "42501": "Grant that role CREATE on the database, or all rights on its schema jbackup.",
  "42P01": "Drop what is left of the schema jbackup, then run `jbackup catalog rebuild`.",
  "53100": "Make room on the disk of that server.",
  "57014": "The server was too slow: look for what blocks it in pg_stat_activity.",
};

const isOurBug = (error: unknown): boolean =>
  !(error instanceof Error) ||
  error instanceof TypeError ||
  error instanceof RangeError ||
  error instanceof ReferenceError;

function translatePostgres(error: unknown, location: string): unknown {
  if (isJBackupError(error) || isOurBug(error)) return error;
  const state = String((error as { code?: unknown }).code ?? "");
  // Class 22 is a value the server cannot hold, 23 a broken constraint: the record is at fault, not the database.
  if (/^2[23]...$/.test(state)) {
    const message = `the catalog ${location} refused a record: ${reasonOf(error)}`;
    return new JBackupError("conflict", message, { cause: error });
  }
  const hint = HINTS[state] ?? "Check catalog.url and that this server is up.";
  const message = `cannot use the catalog ${location}: ${innermost(error)}`;
  return new JBackupError("catalog_unavailable", message, { hint, cause: error });
}

/** A host with several addresses fails with a list of errors and no text of its own. */
const innermost = (error: unknown): string =>
  error instanceof AggregateError && error.message === ""
    ? error.errors.map(reasonOf).join(", ")
    : reasonOf(error);
