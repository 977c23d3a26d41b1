import { randomBytes } from "node:crypto";
import { totalmem } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { PhysicalFacts } from "../../domain/physical.js";
import { isOwnFolder } from "../../sys/ownFiles.js";
import type { Site } from "../site.js";

/** The server programs of exactly the version that wrote the files. */
export async function binDirectoryFor(site: Site, facts: PhysicalFacts): Promise<string> {
  const { findBinDirectories } = await site.clusters();
  const { environment, config } = site;
  const found = await findBinDirectories(
    "postgres",
    { path: environment.path, home: environment.home },
    config.database.binDirectory,
  );
  const fitting = found.find(({ major }) => major === facts.server.major);
  if (fitting) return fitting.path;
  const there = [...new Set(found.map(({ major }) => major))].join(", ") || "none";
  throw new JBackupError(
    "version_mismatch",
    `the backup is of PostgreSQL ${facts.server.major}, and the server programs on this machine are of: ${there}`,
    { hint: `install PostgreSQL ${facts.server.major}, or point database.binDirectory at its programs` },
  );
}

/** Ends a server that a killed run left on these files; a pg_ctl of any version can. */
export async function stopLeftServer(
  site: Site,
  dataDirectory: string,
  owner: { uid: number; gid: number } | null,
): Promise<void> {
  const { isRunning, stopServer, findBinDirectories } = await site.clusters();
  if (!(await isRunning(dataDirectory))) return;
  const environment = { path: site.environment.path, home: site.environment.home };
  const [newest] = await findBinDirectories("pg_ctl", environment, site.config.database.binDirectory);
  if (newest === undefined)
    throw new JBackupError(
      "environment",
      `a server runs on ${dataDirectory}, and no pg_ctl was found to stop it`,
      {
        hint: "install the PostgreSQL server programs, or put their folder into PATH",
      },
    );
  await stopServer({ dataDirectory, binDirectory: newest.path, environment, owner });
}

const MEBIBYTE = 2 ** 20;

/** Sized to the machine, not to the one that the backup came from. */
export function sizedOptions(): Record<string, string> {
  const eighth = Math.floor(totalmem() / 8 / MEBIBYTE);
  return {
    shared_buffers: `${Math.max(32, Math.min(1024, eighth))}MB`,
    maintenance_work_mem: `${Math.max(32, Math.min(512, Math.floor(eighth / 4)))}MB`,
    work_mem: "16MB",
    max_wal_size: "8GB",
    checkpoint_timeout: "1h",
  };
}

/** Short, for a socket's path must stay under 108 bytes. */
export const privateDirectory = (site: Site): string =>
  join(site.environment.temporaryDirectory, `jbackup-server-${randomBytes(4).toString("hex")}`);

const PRIVATE = /^jbackup-server-[0-9a-f]{8}$/;

/** Whether it is one that a run of ours made for a server of this owner: nothing else may be removed. */
export const isPrivateDirectory = async (
  site: Site,
  path: string,
  owner: { uid: number; gid: number } | null,
): Promise<boolean> =>
  dirname(path) === resolve(site.environment.temporaryDirectory) &&
  PRIVATE.test(basename(path)) &&
  (await isOwnFolder(path, owner ? [owner.uid] : []));
