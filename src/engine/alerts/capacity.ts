import type { StorageConfig } from "../../domain/config.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { daysUntilFull, filledPercent, fullnessOf, type StorageUse } from "../../domain/storageUse.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { inTime } from "../inTime.js";
import type { OpenedStorage, Site } from "../site.js";
import { firstDay, growthIn, roomOf } from "../status/storages.js";

/** Storages that are full, or will be soon as they grow now; told while there is still time to make room. */
export async function watchCapacity(site: Site): Promise<void> {
  try {
    const use = await site.catalog.storageUse(firstDay(site));
    for (const opened of await site.storages()) {
      const config = site.config.storages.find(({ name }) => name === opened.name);
      if (config !== undefined) await watchStorage(site, config, opened, use);
    }
  } catch (error) {
    // without the catalog nothing is known of growth; what is full is told by the write that fails
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
  }
}

async function watchStorage(
  site: Site,
  config: StorageConfig,
  opened: OpenedStorage,
  known: StorageUse[],
): Promise<void> {
  const { name } = config;
  const use = known.find(({ storage }) => storage === name);
  const room = roomOf(config.capacityBytes ?? null, use?.bytes ?? 0, await spaceOf(opened));
  const { perDay } = growthIn(site, use);
  const percent = filledPercent(room.freeBytes, room.capacityBytes);
  const days = daysUntilFull(room.freeBytes, perDay);
  const fullness = fullnessOf(percent, days);
  const fingerprint = `capacity:${name}`;
  if (fullness === "fine") {
    await resolveAlert(site, fingerprint, `storage ${name} has room again`);
    return;
  }
  const soon = days === null ? "" : `, and full in ${days} ${days === 1 ? "day" : "days"} as it grows now`;
  await raiseAlert(site, {
    type: "STORAGE_CAPACITY",
    severity: fullness === "nearly_full" ? "critical" : "warning",
    fingerprint,
    message: `storage ${name} is ${percent ?? 0} % full${soon}`,
    hint: "make room, or keep less: jbackup cleanup --dry-run shows what the retention would remove",
    storage: name,
  });
}

/** A storage that cannot be asked now has an alert of its own. */
async function spaceOf({
  name,
  storage,
}: OpenedStorage): Promise<{ freeBytes: number; totalBytes: number } | undefined> {
  try {
    // a mount whose server is gone answers never
    return await inTime(Promise.resolve(storage?.space?.()), `storage ${name}`);
  } catch (error) {
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    return undefined;
  }
}
