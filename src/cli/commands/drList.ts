import { type LastRun, listRunbooks } from "../../engine/runbooks.js";
import { type CommandRun, withSiteToRead } from "../context.js";
import { tableText, wrapped } from "../table.js";
import { agoText, durationText } from "../text.js";

export const run: CommandRun = (context) =>
  withSiteToRead(context, async (site) => {
    const now = context.clock.now();
    const runbooks = await listRunbooks(site);
    const last = (one: LastRun | null): string =>
      one === null
        ? "never"
        : `${agoText(one.at, now)}, ${one.status}${one.rtoMs === null ? "" : ` in ${durationText(one.rtoMs)}`}`;
    const table = tableText(
      runbooks,
      [
        { title: "RUNBOOK", value: ({ name }) => name, rank: 0 },
        { title: "BUDGET", value: ({ budgetMs }) => durationText(budgetMs), align: "right", rank: 4 },
        { title: "STEPS", value: ({ steps }) => String(steps), align: "right", rank: 5 },
        { title: "LAST RUN", value: ({ lastRun }) => last(lastRun), rank: 3 },
        { title: "LAST DRILL", value: ({ lastDrill }) => last(lastDrill), rank: 2 },
      ],
      context.output.columns,
    ).split("\n");
    // what is seen of a disaster is what people look for: it gets lines of its own
    const text = table.flatMap((line, at) => {
      const runbook = runbooks[at - 1];
      if (!runbook) return [context.output.paint.bold(line)];
      const seen = `${runbook.title}: ${runbook.symptoms.join("; ")}`;
      return [line, ...wrapped(seen, context.output.columns - 2).map((part) => `  ${part}`)];
    });
    context.output.answer(runbooks, runbooks.length === 0 ? "There are no runbooks." : text.join("\n"));
    return 0;
  });
