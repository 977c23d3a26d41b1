import { isJBackupError, reasonOf } from "../../domain/errors.js";
import type { Session } from "../../postgres/postgres.js";
import { slotName } from "../archiveWal.js";
import { knownSystem } from "../ownSystem.js";
import type { Site } from "../site.js";
import { openWalReader } from "./walReader.js";

/**
 * Where WAL is going to be archived and nothing of it is yet, the slot comes before the first backup: else the server may remove
 * what it wrote between that backup and the first pass, and no later moment could be reached from it.
 */
export async function makeFirstSlot(site: Site, session: Session): Promise<void> {
  if (site.config.schedule.wal === undefined) return;
  try {
    if (!(await isFirst(site, session))) return;
    const { wal } = await site.postgres();
    await wal.makeSlot(session, slotName(site));
    site.report.info(`made the replication slot ${slotName(site)}: the server keeps WAL until it is stored`);
  } catch (error) {
    site.signal.throwIfAborted();
    if (!isJBackupError(error)) throw error;
    site.report.warn(
      `the server is not asked to keep its WAL before jbackup backup wal runs: ${reasonOf(error)}`,
    );
  }
}

async function isFirst(site: Site, session: Session): Promise<boolean> {
  const { wal } = await site.postgres();
  const { systemId } = await wal.server(session);
  const known = await knownSystem(site);
  if (known !== null && known !== systemId) return false;
  const { slot, archiver } = await wal.health(session, slotName(site), null);
  if (slot !== null || archiver !== null) return false;
  const reader = await openWalReader(site, systemId, { without: "lost" });
  // the first pass of a new primary fetches what it still has from the end of the archive on: no slot may stand in its way
  return (await reader.list()).length === 0 && reader.unread.size === 0;
}
