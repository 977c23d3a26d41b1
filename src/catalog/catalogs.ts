import { resolve } from "node:path";
import { JBackupError } from "../domain/errors.js";
import type { Clock } from "../sys/clock.js";
import type { Catalog } from "./catalog.js";
import type { CatalogDatabase } from "./database.js";
import type { JobQueue } from "./queue.js";

export { type JournalOptions, withJournal } from "./journal.js";
export type { FoundWork, JobQueue, TakenWork, Work } from "./queue.js";

export interface OpenOptions {
  clock: Clock;
  /** Bring an older catalog up to date while opening. Only `jbackup catalog migrate` does without, to tell what it did. */
  migrate?: boolean;
}

/**
 * Opens `sqlite:/path`, `sqlite::memory:` or `postgresql://...`, creating its tables if they are new.
 * Rejects with config_invalid (no such kind of URL), version_mismatch (a newer jbackup's; untouched) or catalog_unavailable.
 */
export async function openCatalog(url: string, options: OpenOptions): Promise<Catalog> {
  const database = await openDatabase(placeOf(url), options.clock);
  const [{ KyselyCatalog }, { migrateTables, pendingMigrations }] = await Promise.all([
    import("./kyselyCatalog.js"),
    import("./schema.js"),
  ]);
  try {
    if (options.migrate === false) await pendingMigrations(database);
    else await migrateTables(database);
    return new KyselyCatalog(database, options.clock);
  } catch (error) {
    await database.db.destroy();
    throw database.translate(error);
  }
}

type Place = { kind: "sqlite"; path: string } | { kind: "postgres"; url: string };

// The driver that is not needed is not loaded: neither is small.
async function openDatabase(place: Place, clock: Clock): Promise<CatalogDatabase> {
  if (place.kind === "postgres") return (await import("./postgres.js")).openPostgres(place.url);
  return (await import("./sqlite.js")).openSqlite(place.path, clock);
}

/** What the catalog's `location` will say, without opening it. */
export async function locationOf(url: string): Promise<string> {
  const place = placeOf(url);
  if (place.kind === "sqlite") return `sqlite:${place.path}`;
  return (await import("./postgresUrl.js")).parsePostgresUrl(place.url).location;
}

function placeOf(url: string): Place {
  if (/^postgres(ql)?:\/\//.test(url)) return { kind: "postgres", url };
  const path = /^sqlite:(?:\/\/(?=\/))?(.+)$/s.exec(url)?.[1];
  if (path === ":memory:") return { kind: "sqlite", path };
  if (path !== undefined) return { kind: "sqlite", path: resolve(path) };
  // Only the scheme is shown: the rest may hold a password.
  const scheme = /^[a-z0-9+.-]*:/i.exec(url)?.[0] ?? "no scheme";
  throw new JBackupError("config_invalid", `catalog.url has a form that no catalog knows (${scheme})`, {
    hint: "Write it as sqlite:/var/lib/jbackup/catalog.db or postgresql://user@host/database.",
  });
}

/** The queue that several hosts share, beside a PostgreSQL catalog; null where the catalog is a file of one host. */
export async function openJobQueue(url: string, site: string): Promise<JobQueue | null> {
  const place = placeOf(url);
  if (place.kind === "sqlite") return null;
  return (await import("./queue.js")).openQueue(place.url, site);
}
