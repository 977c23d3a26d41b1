import type { Alert, AlertSeverity, AlertType } from "../domain/backup.js";
import { isJBackupError } from "../domain/errors.js";
import type { Site } from "./site.js";

export interface Trouble {
  type: AlertType;
  severity: AlertSeverity;
  /** Names the trouble: the same one again updates its open alert. */
  fingerprint: string;
  message: string;
  hint?: string | null;
  backupId?: string | null;
  storage?: string | null;
}

async function openAlerts(site: Site, fingerprint: string): Promise<Alert[]> {
  try {
    return await site.catalog.alerts({ fingerprint, status: ["active", "acknowledged"] });
  } catch (error) {
    // a catalog that is down must not hide the trouble: a new alert goes to its journal
    if (isJBackupError(error, "catalog_unavailable")) return [];
    throw error;
  }
}

/** Records a trouble. Never fails what it tells about: the catalog's journal takes what the catalog cannot. */
export async function raiseAlert(site: Site, trouble: Trouble): Promise<void> {
  const now = site.clock.now().toISOString();
  const [open] = await openAlerts(site, trouble.fingerprint);
  const alert: Alert = open
    ? {
        ...open,
        severity: trouble.severity,
        message: trouble.message,
        lastSeenAt: now,
        occurrences: open.occurrences + 1,
      }
    : {
        id: site.newId(),
        type: trouble.type,
        severity: trouble.severity,
        status: "active",
        fingerprint: trouble.fingerprint,
        message: trouble.message,
        hint: trouble.hint ?? null,
        backupId: trouble.backupId ?? null,
        storage: trouble.storage ?? null,
        createdAt: now,
        lastSeenAt: now,
        occurrences: 1,
        channels: [],
        sentAt: null,
        acknowledgedAt: null,
        acknowledgedBy: null,
        resolvedAt: null,
        resolvedBy: null,
        note: null,
        metadata: {},
      };
  await site.catalog.saveAlert(alert);
}

/** The cause is seen to be gone. */
export async function resolveAlert(site: Site, fingerprint: string, note: string): Promise<void> {
  for (const alert of await openAlerts(site, fingerprint)) {
    const at = site.clock.now().toISOString();
    await site.catalog.saveAlert({
      ...alert,
      status: "resolved",
      resolvedAt: at,
      resolvedBy: "jbackup",
      note,
    });
  }
}
