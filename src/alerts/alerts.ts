import type { AlertMessage } from "../domain/alertMessage.js";
import type { ChannelConfig } from "../domain/config.js";

/** The front of the channels: each is loaded when it is first used. */
export interface Channel {
  readonly name: string;
  /** Rejects with channel_failed, in a sentence that holds no secret. May deliver twice when a reply was lost. */
  send(message: AlertMessage, signal: AbortSignal): Promise<void>;
}

export async function openChannel(config: ChannelConfig): Promise<Channel> {
  switch (config.kind) {
    case "email":
      return (await import("./email.js")).emailChannel(config);
    case "webhook":
      return (await import("./webhook.js")).webhookChannel(config);
    case "sms":
      return (await import("./sms.js")).smsChannel(config);
  }
}

export { ping } from "./http.js";
