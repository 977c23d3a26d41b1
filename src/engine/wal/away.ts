import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import type { WalWriter } from "./walWriter.js";

/** Each try of a storage that is down takes a call a quarter of a minute; segments come faster than that. */
const AWAY_MS = 60_000;

/** Storages that were given up a moment ago, and until when. */
type Away = Record<string, { until: string; why: string }>;

const path = (site: Site): string => join(site.config.home, `${site.config.site}.wal-away.json`);

async function readAway(site: Site): Promise<Away> {
  try {
    return JSON.parse(await readFile(path(site), "utf8")) as Away;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw error;
  }
}

/** The site without the storages that another call gave up within the last minute, while enough others are left. */
export async function withoutAway(site: Site): Promise<Site> {
  const now = site.clock.now().toISOString();
  const away = new Map(Object.entries(await readAway(site)).filter(([, { until }]) => until > now));
  const left = site.config.storages.filter(({ name }) => !away.has(name)).length;
  if (away.size === 0 || left < site.config.minCopies) return site;
  return {
    ...site,
    storages: async () =>
      (await site.storages()).map((opened) => {
        const known = away.get(opened.name);
        if (known === undefined) return opened;
        const { name, kind } = opened;
        return { name, kind, storage: null, error: new JBackupError("storage_unavailable", known.why) };
      }),
  };
}

/** Notes what this call gave up; what it did not even try keeps its time. */
export async function noteAway(site: Site, writer: WalWriter): Promise<void> {
  const now = site.clock.now().getTime();
  const known = await readAway(site);
  const until = new Date(now + AWAY_MS).toISOString();
  let isNew = false;
  for (const [name, { error }] of writer.missed) {
    const isLeftOut = Date.parse(known[name]?.until ?? "") > now;
    if (isLeftOut || !isJBackupError(error, "storage_unavailable")) continue;
    known[name] = { until, why: error.message };
    isNew = true;
  }
  if (isNew) await writeFileAtomic(path(site), `${JSON.stringify(known)}\n`, { overwrite: true });
}
