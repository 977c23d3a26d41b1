import { JBackupError } from "../../domain/errors.js";
import { watchCapacity } from "../../engine/alerts/capacity.js";
import { acknowledgeAlert, closeAlert, testChannels } from "../../engine/alerts/care.js";
import { deliverAlerts } from "../../engine/alerts/deliver.js";
import { watchSchedule } from "../../engine/alerts/watch.js";
import { type CommandContext, type CommandRun, type Options, withSite } from "../context.js";
import { textFlag } from "../flags.js";
import { countedText, durationText } from "../text.js";

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

function noteIn(options: Options): string {
  const note = textFlag(options, "note")?.trim() ?? "";
  if (note !== "") return note;
  throw usage(
    "--note is missing: whoever reads the alert later must know what was done",
    'add --note "text"',
  );
}

function idIn(action: string, args: string[]): string {
  if (args[0] !== undefined) return args[0];
  throw usage(
    `alerts ${action} needs the alert's id`,
    "jbackup alerts --json shows the ids of those that are open",
  );
}

type Action = (context: CommandContext, args: string[], options: Options) => ReturnType<CommandRun>;

const ack: Action = (context, args, options) => {
  const [id, note] = [idIn("ack", args), noteIn(options)];
  return withSite(context, async (site) => {
    const alert = await acknowledgeAlert(site, id, note);
    context.output.answer(alert, `Acknowledged: ${alert.message}`);
    return 0;
  });
};

const resolve: Action = (context, args, options) => {
  const [id, note] = [idIn("resolve", args), noteIn(options)];
  return withSite(context, async (site) => {
    const alert = await closeAlert(site, id, note);
    await deliverAlerts(site);
    context.output.answer(alert, `Resolved: ${alert.message}`);
    return 0;
  });
};

const test: Action = (context, args) =>
  withSite(context, async (site) => {
    const tests = await testChannels(site, args[0] ?? null);
    const text = tests.map(({ channel, ok, error, durationMs }) =>
      ok ? `${channel}: sent in ${durationText(durationMs)}` : `${channel}: FAILED: ${error}`,
    );
    context.output.answer(tests, text.join("\n"));
    return tests.every(({ ok }) => ok) ? 0 : 1;
  });

const check: Action = (context) =>
  withSite(context, async (site) => {
    await watchSchedule(site);
    await watchCapacity(site);
    const done = await deliverAlerts(site);
    const open = await site.catalog.alerts({ status: ["active", "acknowledged"], limit: 1_000 });
    context.output.answer(
      { ...done, open: open.length },
      `${countedText(open.length, "open alert")}; ${countedText(done.sent, "message")} sent, ${done.waiting} to be tried again.`,
    );
    return 0;
  });

export const ACTIONS: Record<string, Action> = { ack, resolve, test, check };
