import { listRestores } from "../../engine/history.js";
import { painted } from "../backupText.js";
import { type CommandRun, withSiteToRead } from "../context.js";
import { choiceFlag, countFlag, timeFlag } from "../flags.js";
import { tableText } from "../table.js";
import { agoText, countText, durationText } from "../text.js";

export const run: CommandRun = async (context, args, options) => {
  const [reference] = args;
  if (reference !== undefined) return (await import("./restoresShow.js")).run(context, args, options);
  const now = context.clock.now();
  const status = choiceFlag(options, "status", ["in_progress", "completed", "failed", "cancelled"] as const);
  const since = timeFlag(options, "since", now);
  const limit = countFlag(options, "limit", 1, 100_000) ?? 50;
  return withSiteToRead(context, async (site) => {
    const restores = await listRestores(site, {
      limit,
      ...(status ? { status: [status] } : {}),
      ...(since ? { since } : {}),
    });
    const { columns, paint } = context.output;
    const table = tableText(
      restores,
      [
        { title: "ID", value: ({ id }) => id.slice(0, 13), rank: 7 },
        { title: "WHEN", value: ({ startedAt }) => agoText(startedAt, now), rank: 1 },
        {
          title: "STATUS",
          value: (one) => one.status.replace("_", " "),
          rank: 0,
          paint: (text, one) => painted(text, one.status, paint),
        },
        { title: "MODE", value: ({ mode }) => mode, rank: 3 },
        { title: "TARGET", value: ({ target }) => target, rank: 0 },
        { title: "ROWS", value: ({ rowsRestored }) => countText(rowsRestored), align: "right", rank: 4 },
        {
          title: "TOOK",
          value: ({ durationMs }) => (durationMs === null ? "-" : durationText(durationMs)),
          align: "right",
          rank: 5,
        },
        { title: "BY", value: ({ initiatedBy }) => initiatedBy, rank: 6 },
        { title: "REASON", value: ({ reason }) => reason, rank: 2, most: 40 },
      ],
      columns,
      paint.bold,
    );
    context.output.answer(restores, restores.length === 0 ? "No restores are recorded." : table);
    return 0;
  });
};
