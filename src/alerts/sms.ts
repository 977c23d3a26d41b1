import { headlineOf } from "../domain/alertMessage.js";
import type { SmsChannelConfig } from "../domain/config.js";
import type { Channel } from "./alerts.js";
import { channelFailed } from "./failure.js";
import { post } from "./http.js";

/** Two parts of a message: more costs more and is read less. */
const MOST_LETTERS = 300;

/** Twilio's messages API, or anything that speaks it. */
export const smsChannel = (config: SmsChannelConfig): Channel => ({
  name: config.name,
  async send(message, signal) {
    if (config.from === "" || config.to.length === 0)
      throw channelFailed(config.name, "needs from and to, written as +15551234567");
    const account = (await config.accountId()).reveal();
    const token = (await config.token()).reveal();
    const url = `${config.endpoint}/2010-04-01/Accounts/${encodeURIComponent(account)}/Messages.json`;
    const headers = {
      "content-type": "application/x-www-form-urlencoded",
      authorization: `Basic ${Buffer.from(`${account}:${token}`).toString("base64")}`,
    };
    for (const to of config.to) {
      const form = new URLSearchParams({
        To: to,
        From: config.from,
        Body: headlineOf(message).slice(0, MOST_LETTERS),
      });
      await post(config.name, { url, body: form.toString(), headers }, signal);
    }
  },
});
