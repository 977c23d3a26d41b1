import { isAtLeast } from "../domain/alertMessage.js";
import type { Alert, AlertSeverity, AlertType } from "../domain/backup.js";
import { isJBackupError } from "../domain/errors.js";
import { tellChannels } from "./alerts/outbox.js";
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
  metadata?: Record<string, unknown>;
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

/** Records a trouble, and tells it once. Never fails what it tells about: the catalog's journal takes what the catalog cannot. */
export async function raiseAlert(site: Site, trouble: Trouble): Promise<Alert> {
  const now = site.clock.now().toISOString();
  const [open] = await openAlerts(site, trouble.fingerprint);
  const alert = open ? { ...open, ...seenAgain(open, trouble, now) } : newAlert(site, trouble, now);
  await site.catalog.saveAlert(alert);
  // what got worse is told again, whoever acknowledged the lesser trouble
  if (!open || !isAtLeast(open.severity, trouble.severity)) await tellChannels(site, alert, "raised");
  return alert;
}

/** What helps changes with what is wrong. */
const seenAgain = (open: Alert, { severity, message, hint }: Trouble, now: string): Partial<Alert> => ({
  severity,
  message,
  hint: hint === undefined ? open.hint : hint,
  lastSeenAt: now,
  occurrences: open.occurrences + 1,
});

export const newAlert = (site: Site, trouble: Trouble, now: string): Alert => ({
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
  metadata: trouble.metadata ?? {},
});

/** The whole of a job came to a good end, and with it every part of which somebody was told. */
export async function resolveAlertsOf(site: Site, job: string, note: string): Promise<void> {
  for (const what of ["failed", "interrupted"]) await resolveAlert(site, `${what}:${job}`, note);
  for (const { fingerprint } of await openBackupFailures(site))
    if (fingerprint.startsWith(`failed:${job}:`) || fingerprint.startsWith(`interrupted:${job}:`))
      await resolveAlert(site, fingerprint, note);
}

async function openBackupFailures(site: Site): Promise<Alert[]> {
  try {
    return await site.catalog.alerts({ type: "BACKUP_FAILURE", status: ["active", "acknowledged"] });
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return [];
    throw error;
  }
}

/** The cause is seen to be gone. */
export async function resolveAlert(
  site: Site,
  fingerprint: string,
  note: string,
  by = "jbackup",
): Promise<Alert[]> {
  const resolved: Alert[] = [];
  for (const alert of await openAlerts(site, fingerprint)) {
    const resolvedAt = site.clock.now().toISOString();
    const done: Alert = { ...alert, status: "resolved", resolvedAt, resolvedBy: by, note };
    await site.catalog.saveAlert(done);
    await tellChannels(site, done, "resolved");
    resolved.push(done);
  }
  return resolved;
}
