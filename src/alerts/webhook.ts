import { createHmac } from "node:crypto";
import { type AlertMessage, bodyOf, headlineOf } from "../domain/alertMessage.js";
import type { WebhookChannelConfig } from "../domain/config.js";
import type { Channel } from "./alerts.js";
import { channelFailed } from "./failure.js";
import { post } from "./http.js";

const JSON_TYPE = { "content-type": "application/json", "user-agent": "jbackup" };

/**
 * As JSON, signed: X-Jbackup-Signature is `t=SECONDS,v1=HMAC-SHA256(secret, "SECONDS.BODY")` in hex, so that the receiver
 * can tell it is ours and fresh. Or as Slack and PagerDuty want it.
 */
export const webhookChannel = (config: WebhookChannelConfig): Channel => ({
  name: config.name,
  async send(message, signal) {
    const url = (await config.url()).reveal();
    const secret = config.secret === null ? null : (await config.secret()).reveal();
    const body = JSON.stringify(payloadOf(config, message, secret));
    const seconds = Math.floor(Date.parse(message.at) / 1000);
    const signature =
      secret === null || config.format !== "json"
        ? {}
        : {
            "x-jbackup-signature": `t=${seconds},v1=${createHmac("sha256", secret).update(`${seconds}.${body}`).digest("hex")}`,
          };
    await post(config.name, { url, body, headers: { ...JSON_TYPE, ...signature } }, signal);
  },
});

function payloadOf(
  { name, format }: WebhookChannelConfig,
  message: AlertMessage,
  secret: string | null,
): unknown {
  if (format === "json") return message;
  if (format === "slack") return { text: `*${headlineOf(message)}*\n${bodyOf(message)}` };
  if (secret === null) throw channelFailed(name, "has no secret: PagerDuty needs its routing key there");
  return {
    routing_key: secret,
    event_action: message.event === "resolved" ? "resolve" : "trigger",
    dedup_key: `jbackup:${message.site}:${message.fingerprint}`,
    payload: {
      summary: headlineOf(message),
      source: message.host,
      severity: message.severity,
      timestamp: message.at,
      custom_details: message,
    },
  };
}
