import { markdownOf } from "../../domain/recoveryReport.js";
import { readReport } from "../../engine/dr/report.js";
import { type CommandRun, withSiteToRead } from "../context.js";

export const run: CommandRun = (context, [reference]) =>
  withSiteToRead(context, async (site) => {
    const report = await readReport(site, reference ?? null);
    context.output.answer(report, markdownOf(report));
    return 0;
  });
