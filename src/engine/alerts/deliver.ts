import type { AlertMessage } from "../../domain/alertMessage.js";
import type { Delivery } from "../../domain/backup.js";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import type { Site } from "../site.js";
import { ownDeliveries, tellChannels } from "./outbox.js";

/** What all of the sending may take at the end of a run: whatever is left is sent by the next one. */
const BUDGET_MS = 15_000;
const PAUSES_MS = [60_000, 300_000, 900_000, 3_600_000, 7_200_000, 14_400_000, 28_800_000];

export interface Delivered {
  sent: number;
  waiting: number;
  failed: number;
}

/**
 * Sends what is due, side by side, and never fails: what cannot be sent is tried again later, and told through the
 * other channels meanwhile.
 */
export async function deliverAlerts(site: Site, signal = AbortSignal.timeout(BUDGET_MS)): Promise<Delivered> {
  const done: Delivered = { sent: 0, waiting: 0, failed: 0 };
  if (site.config.alerts.channels.length === 0) return done;
  await remind(site);
  // a failure found while sending is a message of its own, for the channels that work
  for (let round = 0; round < 2; round++)
    for (const { status } of await Promise.all(
      (await due(site)).map((delivery) => attempt(site, delivery, signal)),
    ))
      done[status]++;
  return done;
}

async function due(site: Site): Promise<Delivery[]> {
  const now = site.clock.now().toISOString();
  const waiting = new Map(ownDeliveries(site));
  try {
    for (const delivery of await site.catalog.deliveries({ status: ["waiting"], limit: 500 }))
      if (!waiting.has(delivery.id)) waiting.set(delivery.id, delivery);
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
  }
  return [...waiting.values()].filter(
    ({ status, nextAttemptAt }) => status === "waiting" && (nextAttemptAt ?? "") <= now,
  );
}

async function attempt(site: Site, delivery: Delivery, signal: AbortSignal): Promise<Delivery> {
  const config = site.config.alerts.channels.find(({ name }) => name === delivery.channel);
  if (config === undefined)
    return settle(site, { ...delivery, status: "failed", error: "the channel is not configured any more" });
  const attempts = delivery.attempts + 1;
  try {
    const channel = await site.openChannel(config);
    // a receiver that looks at the age of a signature must find that of this attempt
    const at = site.clock.now().toISOString();
    await channel.send({ ...(delivery.payload as unknown as AlertMessage), at }, signal);
    const sentAt = site.clock.now().toISOString();
    const sent = await settle(site, { ...delivery, attempts, status: "sent", sentAt, error: null });
    await noteSent(site, sent);
    await resolveAlert(site, channelFingerprint(delivery.channel), "a message went through");
    return sent;
  } catch (error) {
    if (!(error instanceof JBackupError) || error.code === "bug") throw error;
    const pauseMs = PAUSES_MS[attempts - 1];
    const nextAttemptAt =
      pauseMs === undefined ? null : new Date(site.clock.now().getTime() + pauseMs).toISOString();
    const status = nextAttemptAt === null ? "failed" : "waiting";
    const later = await settle(site, {
      ...delivery,
      attempts,
      status,
      nextAttemptAt,
      error: reasonOf(error),
    });
    await raiseAlert(site, {
      type: "CHANNEL_FAILURE",
      severity: "error",
      fingerprint: channelFingerprint(delivery.channel),
      message: reasonOf(error),
      hint: error.hint ?? null,
      metadata: { channel: delivery.channel },
    });
    return later;
  }
}

const channelFingerprint = (name: string): string => `channel:${name}`;

async function settle(site: Site, delivery: Delivery): Promise<Delivery> {
  ownDeliveries(site).set(delivery.id, delivery);
  await site.catalog.saveDelivery(delivery);
  return delivery;
}

/** The alert itself shows who was told, and when last. */
async function noteSent(site: Site, { alertId, channel, sentAt, payload }: Delivery): Promise<void> {
  if (alertId === null) return;
  try {
    const same = await site.catalog.alerts({ fingerprint: String(payload.fingerprint) });
    const alert = same.find(({ id }) => id === alertId);
    if (alert === undefined) return;
    await site.catalog.saveAlert({ ...alert, sentAt, channels: [...new Set([...alert.channels, channel])] });
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error; // the delivery's own record says it too
  }
}

/** What is open, unacknowledged, and was last told long ago. */
async function remind(site: Site): Promise<void> {
  const before = new Date(site.clock.now().getTime() - site.config.alerts.reminderEveryMs).toISOString();
  try {
    for (const alert of await site.catalog.alerts({ status: ["active"], limit: 500 })) {
      if (alert.sentAt === null || alert.sentAt > before) continue;
      const [last] = await site.catalog.deliveries({ alertId: alert.id, limit: 1 });
      if (last !== undefined && last.createdAt > before) continue;
      await tellChannels(site, alert, "reminder");
    }
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
  }
}
