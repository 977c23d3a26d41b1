import { type AlertMessage, isAtLeast } from "../../domain/alertMessage.js";
import type { Alert, Delivery, DeliveryEvent } from "../../domain/backup.js";
import type { ChannelConfig } from "../../domain/config.js";
import { isJBackupError } from "../../domain/errors.js";
import type { Site } from "../site.js";

/** What this process has put into the outbox and not yet sent: told also while the catalog is down. */
const ownOf = new WeakMap<Site, Map<string, Delivery>>();

export function ownDeliveries(site: Site): Map<string, Delivery> {
  const own = ownOf.get(site) ?? new Map<string, Delivery>();
  ownOf.set(site, own);
  return own;
}

/** Puts a message into the outbox of every channel that is to hear of this alert. Sending comes later, and by itself. */
export async function tellChannels(site: Site, alert: Alert, event: DeliveryEvent): Promise<void> {
  for (const channel of await listeners(site, alert, event)) {
    const at = site.clock.now().toISOString();
    await putIntoOutbox(site, channel.name, alert.id, messageOf(site, alert, event, at));
  }
}

export interface Notice {
  message: string;
  hint: string;
  /** Whom receivers take for the same news when it comes twice. */
  fingerprint: string;
}

/** News that a runbook wants told, to everybody: no trouble, so no alert that somebody would have to close. Answers who will be told. */
export async function tellNotice(site: Site, { message, hint, fingerprint }: Notice): Promise<string[]> {
  const at = site.clock.now().toISOString();
  const names = site.config.alerts.channels.map(({ name }) => name);
  for (const name of names)
    await putIntoOutbox(site, name, null, {
      event: "notice",
      site: site.config.site,
      host: site.environment.host,
      alertId: "",
      type: "NOTICE",
      severity: "info",
      fingerprint,
      message,
      hint,
      backupId: null,
      storage: null,
      since: at,
      occurrences: 1,
      at,
    });
  return names;
}

async function putIntoOutbox(
  site: Site,
  channel: string,
  alertId: string | null,
  message: AlertMessage,
): Promise<void> {
  const { event, at } = message;
  const delivery: Delivery = {
    id: site.newId(),
    alertId,
    channel,
    event,
    status: "waiting",
    payload: { ...message },
    attempts: 0,
    nextAttemptAt: at,
    createdAt: at,
    sentAt: null,
    error: null,
  };
  ownDeliveries(site).set(delivery.id, delivery);
  await site.catalog.saveDelivery(delivery);
}

/** By severity; the end of a trouble goes to those who heard of it; a channel's own failure never goes through that channel. */
async function listeners(site: Site, alert: Alert, event: DeliveryEvent): Promise<ChannelConfig[]> {
  const channels = site.config.alerts.channels.filter(
    ({ name, atLeast }) => isAtLeast(alert.severity, atLeast) && alert.metadata.channel !== name,
  );
  if (event !== "resolved") return channels;
  const told = await toldOf(site, alert);
  return channels.filter(({ name }) => told.has(name));
}

async function toldOf(site: Site, { id, channels }: Alert): Promise<Set<string>> {
  const told = new Set(channels);
  for (const delivery of ownDeliveries(site).values())
    if (delivery.alertId === id) told.add(delivery.channel);
  try {
    for (const { channel } of await site.catalog.deliveries({ alertId: id, status: ["waiting", "sent"] }))
      told.add(channel);
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
  }
  return told;
}

export const messageOf = (site: Site, alert: Alert, event: DeliveryEvent, at: string): AlertMessage => ({
  event,
  site: site.config.site,
  host: site.environment.host,
  alertId: alert.id,
  type: alert.type,
  severity: alert.severity,
  fingerprint: alert.fingerprint,
  message: alert.message,
  hint: alert.hint,
  backupId: alert.backupId,
  storage: alert.storage,
  since: alert.createdAt,
  occurrences: alert.occurrences,
  at,
});
