import { stat } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { Session } from "../../postgres/postgres.js";
import { freeBytesAt } from "../../sys/hiddenFile.js";
import type { Site } from "../site.js";

/** Where a dump is put while pg_restore reads it. */
export const temporaryDirectory = (site: Site): string => join(site.config.home, "tmp");

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1)} GB`;

function requireFree(where: string, needed: number, free: number, what: string): void {
  if (free >= needed) return;
  throw new JBackupError(
    "no_space",
    `${what} needs ${gigabytes(needed)} in ${where}, where ${gigabytes(free)} are free`,
    {
      hint: `make room in ${where}, then run the restore again`,
      details: { neededBytes: needed, freeBytes: free },
    },
  );
}

const isHere = async (directory: string): Promise<boolean> => {
  try {
    return (await stat(directory)).isDirectory();
  } catch {
    return false; // another host, or not ours to look at: nothing can be said about its space
  }
};

/** Refused before anything is fetched: too little room for the dump here, or for the database on the server. */
export async function requireSpace(
  site: Site,
  admin: Session,
  dumpBytes: number,
  databaseBytes: number,
): Promise<void> {
  const directory = temporaryDirectory(site);
  requireFree(directory, dumpBytes, await freeBytesAt(directory), "the opened dump");
  const [row] = await admin.rows<{ directory: string | null }>(
    "select case when pg_has_role('pg_read_all_settings', 'member') then current_setting('data_directory') end as directory",
  );
  const data = row?.directory ?? null;
  if (data !== null && (await isHere(data)))
    requireFree(data, databaseBytes, await freeBytesAt(data), "the restored database");
}
