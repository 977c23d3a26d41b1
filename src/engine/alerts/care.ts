import type { Alert } from "../../domain/backup.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import { pickOne } from "../../domain/reference.js";
import { newAlert, resolveAlert, type Trouble } from "../alert.js";
import { actorOf, recordAudit } from "../audit.js";
import type { Site } from "../site.js";
import { messageOf } from "./outbox.js";

const MOST = 10_000;

async function openAlert(site: Site, reference: string): Promise<Alert> {
  const open = await site.catalog.alerts({ status: ["active", "acknowledged"], limit: MOST });
  const found = pickOne(
    reference,
    open.map((alert) => ({ ...alert, label: alert.id })),
  );
  if (found !== null) return open.find(({ id }) => id === found.id) as Alert;
  throw new JBackupError("not_found", `there is no open alert "${reference}"`, {
    hint: "jbackup alerts --json shows the ids of those that are open",
  });
}

/** Somebody takes care of it: no more reminders. */
export async function acknowledgeAlert(site: Site, reference: string, note: string): Promise<Alert> {
  const alert = await openAlert(site, reference);
  const done: Alert = {
    ...alert,
    status: "acknowledged",
    acknowledgedAt: site.clock.now().toISOString(),
    acknowledgedBy: actorOf(site),
    note,
  };
  await site.catalog.saveAlert(done);
  await recordAudit(site, "alert.acknowledge", alert.id, { fingerprint: alert.fingerprint, note });
  return done;
}

export async function closeAlert(site: Site, reference: string, note: string): Promise<Alert> {
  const alert = await openAlert(site, reference);
  const [done] = await resolveAlert(site, alert.fingerprint, note, actorOf(site));
  await recordAudit(site, "alert.resolve", alert.id, { fingerprint: alert.fingerprint, note });
  return done ?? alert;
}

const TEST: Trouble = {
  type: "CHANNEL_FAILURE",
  severity: "info",
  fingerprint: "test",
  message: "this is only a test: the channel works",
};

export interface ChannelTest {
  channel: string;
  ok: boolean;
  error: string | null;
  durationMs: number;
}

/** A message through each channel, or one of them: a channel that was never tried is no channel. */
export async function testChannels(site: Site, only: string | null): Promise<ChannelTest[]> {
  const channels = site.config.alerts.channels.filter(({ name }) => only === null || name === only);
  if (channels.length === 0)
    throw new JBackupError(
      only === null ? "config_invalid" : "not_found",
      only === null ? "no channel is configured: alerts are only listed" : `there is no channel "${only}"`,
      { hint: "add one to alerts.channels in jbackup.yaml: kind email, webhook or sms" },
    );
  const at = site.clock.now().toISOString();
  const message = messageOf(site, newAlert(site, TEST, at), "test", at);
  return Promise.all(
    channels.map(async (config): Promise<ChannelTest> => {
      const startedMs = site.clock.monotonicMs();
      const took = (): number => Math.round(site.clock.monotonicMs() - startedMs);
      try {
        await (await site.openChannel(config)).send(message, site.signal);
        await recordAudit(site, "alerts.test", config.name, {});
        return { channel: config.name, ok: true, error: null, durationMs: took() };
      } catch (error) {
        if (!(error instanceof JBackupError) || error.code === "bug") throw error;
        return { channel: config.name, ok: false, error: reasonOf(error), durationMs: took() };
      }
    }),
  );
}
