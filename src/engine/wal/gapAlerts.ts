import type { Alert } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { type Lsn, lsnText, parseLsn } from "../../domain/wal.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import type { Site } from "../site.js";

const HOLE = "wal_hole";
const GAP = "wal_gap:";

/** The server no longer has what was not stored yet: nothing brings it back, and nobody may learn of it too late. */
export async function alertGap(site: Site, from: Lsn, to: Lsn): Promise<void> {
  const message = `WAL from ${lsnText(from)} to ${lsnText(to)} was never stored, and the server does not have it any more`;
  site.report.warn(message);
  await raiseAlert(site, {
    type: "WAL_GAP",
    severity: "critical",
    fingerprint: `${GAP}${lsnText(from)}`,
    message,
    hint: "make a new base now: jbackup backup full",
  });
}

/** What is stored has a hole behind the newest base. */
export async function alertHole(site: Site, hole: string): Promise<void> {
  await raiseAlert(site, {
    type: "WAL_GAP",
    severity: "critical",
    fingerprint: HOLE,
    message: `WAL is missing: ${hole}`,
    hint: "make a new base: jbackup backup full",
  });
}

/** A base behind a gap makes it a matter of the past: from there on every moment can be reached again. */
export async function resolveGaps(site: Site, baseStart: Lsn, note: string): Promise<void> {
  for (const { fingerprint } of await openGaps(site)) {
    const isBefore = fingerprint.startsWith(GAP) && parseLsn(fingerprint.slice(GAP.length)) <= baseStart;
    if (fingerprint === HOLE || isBefore) await resolveAlert(site, fingerprint, note);
  }
}

async function openGaps(site: Site): Promise<Alert[]> {
  try {
    return await site.catalog.alerts({ type: "WAL_GAP", status: ["active", "acknowledged"] });
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return [];
    throw error;
  }
}
