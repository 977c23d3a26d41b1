import { closeSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { makeDirectory } from "./atomicFile.js";
import { ownMark, type ProcessMark } from "./processes.js";
import { isFullDisk } from "./systemErrors.js";

export interface HeldLock {
  release(): void;
}

const BUSY = /database is locked|SQLITE_BUSY/;

/**
 * A lock that the kernel drops when its holder dies, however it dies: an exclusive SQLite transaction on a file of its own.
 * Answers the lock, or who holds it.
 */
export async function takeFileLock(
  directory: string,
  name: string,
): Promise<{ held: HeldLock } | { holder: ProcessMark | null }> {
  const { DatabaseSync: Database } = await import("node:sqlite");
  await makeDirectory(directory);
  const file = join(directory, `${name}.lock`);
  const holderFile = join(directory, `${name}.holder`);
  closeSync(openSync(file, "a", 0o600));
  const database: DatabaseSync = new Database(file, { timeout: 0 });
  try {
    // to lock an empty file SQLite would write its first page every time, and a full disk has no room for it
    if (statSync(file).size === 0) database.exec("create table if not exists held (here)");
    database.exec("begin exclusive");
  } catch (error) {
    database.close();
    if (BUSY.test(String((error as Error).message))) return { holder: readHolder(holderFile) };
    throw error;
  }
  try {
    writeFileSync(holderFile, JSON.stringify(ownMark()), { mode: 0o600 });
  } catch (error) {
    if (!isFullDisk(error)) throw error; // nobody else is told who holds it
  }
  return {
    held: {
      release: () => {
        database.exec("rollback");
        database.close();
      },
    },
  };
}

function readHolder(file: string): ProcessMark | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as ProcessMark;
  } catch {
    return null; // the holder has not written its mark yet: only the message is poorer for it
  }
}
