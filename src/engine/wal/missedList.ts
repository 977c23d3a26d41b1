import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { JBackupError } from "../../domain/errors.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { takeFileLock } from "../../sys/fileLock.js";
import type { Site } from "../site.js";

/** Files that a storage did not take when they were archived, by storage: it gets them from another one when it works again. */
export type Missed = Record<string, string[]>;

const LOCK_WAIT_MS = 10_000;
const LOCK_LOOK_MS = 20;

const path = (site: Site): string => join(site.config.home, `${site.config.site}.wal-missed.json`);

export async function readMissed(site: Site): Promise<Missed> {
  try {
    return JSON.parse(await readFile(path(site), "utf8")) as Missed;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw error;
  }
}

/** A follower and the calls of archive_command keep one list: none may overwrite what another one noted meanwhile. */
export async function updateMissed(site: Site, change: (missed: Missed) => void): Promise<void> {
  const name = `${site.config.site}.wal-missed`;
  for (const end = site.clock.monotonicMs() + LOCK_WAIT_MS; ; await delay(LOCK_LOOK_MS)) {
    const taken = await takeFileLock(site.config.home, name);
    if ("held" in taken) {
      try {
        const missed = await readMissed(site);
        change(missed);
        await writeFileAtomic(path(site), `${JSON.stringify(missed)}\n`, { overwrite: true });
      } finally {
        taken.held.release();
      }
      return;
    }
    if (site.clock.monotonicMs() > end)
      throw new JBackupError("locked", `${path(site)} is in use by another process`, {
        hint: "it is held for moments only: look for a jbackup process that hangs",
      });
  }
}
