import { join } from "node:path";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { RestoredCluster } from "../../postgres/postgres.js";
import type { Site } from "../site.js";

/** Every database opens, and its catalog can be read: what a server that merely runs does not prove. */
export async function checkCluster(
  site: Site,
  cluster: Pick<RestoredCluster, "session">,
): Promise<{ restoredTimeline: number; databases: number; tables: number }> {
  const first = await cluster.session("template1");
  let databases: string[];
  let timeline: number;
  try {
    databases = (
      await first.rows<{ name: string }>(
        "select datname as name from pg_database where datallowconn order by datname",
      )
    ).map(({ name }) => name);
    const [row] = await first.rows<{ timeline: string }>(
      "select timeline_id::text as timeline from pg_control_checkpoint()",
    );
    timeline = Number(row?.timeline);
  } finally {
    await first.close();
  }
  let tables = 0;
  for (const name of databases) {
    site.signal.throwIfAborted();
    const session = await cluster.session(name);
    try {
      const [row] = await session.rows<{ many: string }>(
        "select count(*)::text as many from pg_class where relkind in ('r', 'm') and pg_relation_size(oid) >= 0",
      );
      tables += Number(row?.many);
    } finally {
      await session.close();
    }
  }
  if (databases.length === 0)
    throw new JBackupError("verification_failed", "the restored cluster has no database that can be opened");
  return { restoredTimeline: timeline, databases: databases.length, tables };
}

interface ForGood {
  directory: string;
  binDirectory: string;
  owner: { uid: number; gid: number } | null;
}

/** With its own settings this time, open to whoever its own rules let in. */
export async function startForGood(site: Site, { directory, binDirectory, owner }: ForGood): Promise<void> {
  const { startServer } = await site.clusters();
  try {
    await startServer({
      dataDirectory: directory,
      binDirectory,
      environment: { path: site.environment.path, home: site.environment.home },
      owner,
      logFile: join(directory, "jbackup-start.log"),
    });
  } catch (error) {
    if (isJBackupError(error, "target_refused")) throw error;
    throw new JBackupError(
      "postgres_failed",
      `the cluster in ${directory} is restored and was checked, but does not start with its own settings: ${(error as Error).message}`,
      { cause: error, hint: `look at postgresql.conf in ${directory}, then pg_ctl -D ${directory} start` },
    );
  }
}
