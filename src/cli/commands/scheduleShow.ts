import { type ShownJob, type ShownSchedule, showSchedule } from "../../engine/schedule/show.js";
import { type CommandContext, type CommandRun, withSiteToRead } from "../context.js";
import { tableText } from "../table.js";
import { agoText, durationText } from "../text.js";

export const run: CommandRun = (context) =>
  withSiteToRead(context, async (site) => {
    const shown = await showSchedule(site);
    context.output.answer(shown, textOf(context, shown, site.config.file));
    return 0;
  });

const minute = (at: string | null): string => (at === null ? "" : at.slice(0, 16).replace("T", " "));

function textOf(
  { output, clock }: CommandContext,
  { jobs, requests, daemonRunning }: ShownSchedule,
  configFile: string,
): string {
  const now = clock.now();
  const { bold, red } = output.paint;
  const last = ({ lastRun }: ShownJob): string => {
    if (lastRun === null) return "never";
    const took = lastRun.durationMs === null ? "" : ` in ${durationText(lastRun.durationMs)}`;
    return `${agoText(lastRun.startedAt, now)}, ${lastRun.status}${took}`;
  };
  const lines: string[] = [];
  if (jobs.length === 0)
    lines.push(
      `No job has times. Give them in ${configFile}, such as schedule: {full: "0 2 * * *", wal: "*/5 * * * *"}`,
    );
  else
    lines.push(
      tableText(
        jobs,
        [
          { title: "JOB", value: ({ name }) => name, rank: 0 },
          { title: "TIMES (UTC)", value: ({ cron }) => cron, rank: 3 },
          {
            title: "NEXT (UTC)",
            value: ({ nextRun, cron }) => (nextRun === null ? cron : minute(nextRun)),
            rank: 1,
          },
          {
            title: "LAST",
            value: (job) =>
              job.overdue ? `${job.nextRun === null ? "AWAY" : "MISSED"}; last ${last(job)}` : last(job),
            rank: 0,
            paint: (text, job) => (job.overdue ? red(text) : text),
          },
        ],
        output.columns,
        bold,
      ),
    );
  for (const { name, nextRun, missedAt, lastRun, command } of jobs) {
    if (missedAt !== null && nextRun === null)
      lines.push(`Nobody follows the WAL since ${minute(missedAt)}. Try: jbackup ${command}`);
    else if (missedAt !== null)
      lines.push(`${name} should have run at ${minute(missedAt)}. Try: jbackup ${command}`);
    if (lastRun?.error) lines.push(`${name}: ${lastRun.error}`);
  }
  if (requests.length > 0)
    lines.push(
      "",
      tableText(
        requests,
        [
          { title: "ONE-OFF RUN", value: ({ command }) => `jbackup ${command}`, rank: 0, most: 40 },
          { title: "DUE (UTC)", value: ({ dueAt }) => minute(dueAt), rank: 0 },
          { title: "STATUS", value: ({ status }) => status, rank: 2 },
          { title: "ID", value: ({ id }) => id, rank: 1 },
        ],
        output.columns,
        bold,
      ),
    );
  if (daemonRunning) lines.push("", "The daemon (jbackup schedule run) runs on this host.");
  return lines.join("\n");
}
