import { JBackupError } from "../../domain/errors.js";
import { nearest } from "../../domain/similar.js";
import { listAlerts } from "../../engine/history.js";
import { type CommandRun, withSiteToRead } from "../context.js";
import { choiceFlag, countFlag, timeFlag } from "../flags.js";
import { tableText } from "../table.js";
import { agoText } from "../text.js";

export const run: CommandRun = async (context, [action, ...args], options) => {
  if (action === undefined) return list(context, [], options);
  const { ACTIONS } = await import("./alertActions.js");
  const act = ACTIONS[action];
  if (act) return act(context, args, options);
  const meant = nearest(action, Object.keys(ACTIONS));
  throw new JBackupError(
    "usage",
    `alerts does not know "${action}"${meant ? `; did you mean "${meant}"?` : ""}`,
    {
      hint: "say ack, resolve, test or check, or nothing for the list",
    },
  );
};

const list: CommandRun = (context, _args, options) => {
  const now = context.clock.now();
  const wanted = choiceFlag(options, "status", ["active", "acknowledged", "resolved", "all"] as const);
  const since = timeFlag(options, "since", now);
  const limit = countFlag(options, "limit", 1, 100_000) ?? 50;
  const status =
    wanted === undefined ? (["active", "acknowledged"] as const) : wanted === "all" ? undefined : [wanted];
  return withSiteToRead(context, async (site) => {
    const alerts = await listAlerts(site, {
      limit,
      ...(status ? { status: [...status] } : {}),
      ...(since ? { since } : {}),
    });
    const table = tableText(
      alerts,
      [
        { title: "SEVERITY", value: ({ severity }) => severity, rank: 0 },
        { title: "TYPE", value: ({ type }) => type, rank: 2 },
        { title: "STATUS", value: (alert) => alert.status, rank: 3 },
        { title: "SINCE", value: ({ createdAt }) => agoText(createdAt, now), rank: 1 },
        { title: "TIMES", value: ({ occurrences }) => String(occurrences), align: "right", rank: 4 },
      ],
      context.output.columns,
    ).split("\n");
    // the sentence is what matters: it gets a line of its own
    const text = table.flatMap((line, at) => {
      const alert = alerts[at - 1];
      if (!alert) return [context.output.paint.bold(line)];
      return [
        line,
        `  ${alert.message}`,
        ...(alert.hint && alert.status !== "resolved" ? [`  Try: ${alert.hint}`] : []),
      ];
    });
    context.output.answer(alerts, alerts.length === 0 ? "No alerts." : text.join("\n"));
    return 0;
  });
};
