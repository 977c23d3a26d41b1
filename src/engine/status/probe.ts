import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import type { WalHealth } from "../../postgres/postgres.js";
import type { Storage } from "../../storage/storage.js";
import { slotName } from "../archiveWal.js";
import { inTime } from "../inTime.js";
import type { OpenedStorage, Site } from "../site.js";

export interface ProbedStorage {
  name: string;
  /** Null where it cannot be asked from this host at all: that says nothing about it. */
  isReachable: boolean | null;
  error: string | null;
  /** It answers, and no site has ever stored anything there. */
  isNew: boolean;
  /** Null when it must not be read. */
  storage: Storage | null;
  freeBytes: number | null;
  totalBytes: number | null;
}

/** Each storage is asked for its marker and its room, all at the same time. */
export const probeStorages = async (site: Site): Promise<ProbedStorage[]> =>
  Promise.all((await site.storages()).map((opened) => probeStorage(site, opened)));

async function probeStorage(site: Site, opened: OpenedStorage): Promise<ProbedStorage> {
  const { name } = opened;
  const nothing = { name, isNew: false, storage: null, freeBytes: null, totalBytes: null };
  if (opened.storage === null) {
    // credentials that are another host's business
    const isElsewhere = isJBackupError(opened.error, "secret_unavailable");
    return { ...nothing, isReachable: isElsewhere ? null : false, error: reasonOf(opened.error) };
  }
  const { storage } = opened;
  try {
    const [marker, space] = await inTime(
      Promise.all([site.storage.readSite(storage), storage.space?.()]),
      storage.location,
    );
    const room = { freeBytes: space?.freeBytes ?? null, totalBytes: space?.totalBytes ?? null };
    if (marker === undefined) {
      const error = `there is no jbackup-site.json in ${storage.location}`;
      return { ...nothing, ...room, isNew: true, isReachable: false, error };
    }
    if (marker.site !== site.config.site)
      return { ...nothing, isReachable: false, error: `it belongs to site ${marker.site}` };
    return { ...nothing, isReachable: true, error: null, storage, ...room };
  } catch (error) {
    return { ...nothing, isReachable: false, error: expected(site, error) };
  }
}

export interface ProbedServer {
  error: string | null;
  /** Another host backs it up, so that this one need not see it. */
  isElsewhere: boolean;
  wal: WalHealth | null;
}

export async function probeServer(site: Site): Promise<ProbedServer> {
  try {
    return { error: null, isElsewhere: false, wal: await inTime(askServer(site), "PostgreSQL") };
  } catch (error) {
    return { error: expected(site, error), isElsewhere: false, wal: null };
  }
}

async function askServer(site: Site): Promise<WalHealth> {
  const postgres = await site.postgres();
  const session = await postgres.admin();
  try {
    const { walDirectory } = await postgres.wal.server(session);
    return await postgres.wal.health(session, slotName(site), walDirectory);
  } finally {
    await session.close();
  }
}

/** The words of a failure that may happen; anything else is a bug, and passes. */
function expected(site: Site, error: unknown): string {
  site.signal.throwIfAborted();
  if (!(error instanceof JBackupError) || error.code === "bug") throw error;
  return reasonOf(error);
}
