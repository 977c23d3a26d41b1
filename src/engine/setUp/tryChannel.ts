import type { AlertMessage } from "../../domain/alertMessage.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import type { ChannelDraft } from "../../domain/siteDraft.js";
import type { SetUpParts } from "./parts.js";

/** Sends a message that says it is a test: a channel that was never tried is no channel. */
export async function tryChannel(parts: SetUpParts, draft: ChannelDraft, site: string): Promise<void> {
  const at = parts.clock.now().toISOString();
  const message: AlertMessage = {
    event: "test",
    site,
    host: parts.environment.host,
    alertId: "test",
    type: "CHANNEL_FAILURE",
    severity: "info",
    fingerprint: "test",
    message: "this is only a test: the channel works",
    hint: null,
    backupId: null,
    storage: null,
    since: at,
    occurrences: 1,
    at,
  };
  try {
    await (await parts.openChannel(draft)).send(message, parts.signal);
  } catch (error) {
    parts.signal.throwIfAborted();
    if (!isJBackupError(error, "channel_failed")) throw error;
    const what =
      draft.kind === "email" ? "the mail server's address, user and password" : "the webhook's address";
    throw new JBackupError("channel_failed", error.message, {
      cause: error,
      hint: `correct ${what}, then try again; without a channel alerts are only listed`,
    });
  }
}
