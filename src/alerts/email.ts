import { hostname } from "node:os";
import { createTransport } from "nodemailer";
import { bodyOf, headlineOf } from "../domain/alertMessage.js";
import type { EmailChannelConfig } from "../domain/config.js";
import { JBackupError } from "../domain/errors.js";
import type { Channel } from "./alerts.js";
import { channelFailed, plainReason } from "./failure.js";

const LIMIT_MS = 10_000;

/** SMTP as the address says: smtps:// speaks TLS from the first byte, smtp:// takes STARTTLS where it is offered. */
export const emailChannel = (config: EmailChannelConfig): Channel => ({
  name: config.name,
  async send(message, signal) {
    const url = (await config.smtpUrl()).reveal();
    const transport = createTransport(addressOf(config.name, url));
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
    const tooLate = new Promise<never>((_resolve, reject) => {
      const late = (): void =>
        reject(channelFailed(config.name, `got no answer within ${LIMIT_MS / 1000} s`));
      if (limit.aborted) late();
      else limit.addEventListener("abort", late, { once: true });
    });
    tooLate.catch(() => undefined); // it always comes, and mostly nobody waits for it any more
    const sent = transport.sendMail({
      from: config.from ?? `jbackup@${hostname()}`,
      to: config.to,
      subject: headlineOf(message),
      text: bodyOf(message),
      headers: { "X-Jbackup-Site": message.site, "X-Jbackup-Alert": message.alertId },
    });
    try {
      await Promise.race([sent, tooLate]);
    } catch (error) {
      if (error instanceof JBackupError) throw error;
      const { responseCode } = error as { responseCode?: number };
      const why = responseCode === undefined ? plainReason(error) : `SMTP ${responseCode}`;
      throw channelFailed(config.name, `could not send a mail: ${why}`, error);
    } finally {
      sent.catch(() => undefined);
      transport.close();
    }
  },
});

function addressOf(name: string, url: string): Parameters<typeof createTransport>[0] {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (error) {
    throw channelFailed(name, "has no usable smtp.url: write it as smtp://user:password@host:587", error);
  }
  const isTls = parsed.protocol === "smtps:";
  return {
    host: parsed.hostname,
    port: Number(parsed.port || (isTls ? 465 : 587)),
    secure: isTls,
    ...(parsed.username === ""
      ? {}
      : { auth: { user: decodeURIComponent(parsed.username), pass: decodeURIComponent(parsed.password) } }),
    connectionTimeout: LIMIT_MS,
    greetingTimeout: LIMIT_MS,
    socketTimeout: LIMIT_MS,
  } as never;
}
