import { rebuildCatalog } from "../../engine/rebuildCatalog.js";
import { type CommandRun, withSite } from "../context.js";
import { textFlag } from "../flags.js";
import { countedText, countText } from "../text.js";

export const run: CommandRun = (context, _args, options) =>
  withSite(context, async (site) => {
    const report = await rebuildCatalog(site, { from: textFlag(options, "from") ?? null });
    const refused = report.refused.map(({ storage, path, reason }) => `  ${storage}: ${path}: ${reason}`);
    context.output.answer(
      report,
      [
        `Read ${countedText(report.found, "backup")} in ${report.storages.join(", ")}; ${report.added} new to the catalog.`,
        ...(refused.length === 0 ? [] : ["Not believed:", ...refused]),
        ...(report.lostAudit === null
          ? []
          : [
              `The audit is in no storage: of the ${countText(report.lostAudit.entries)} entries that ${report.lostAudit.label} knew not all are here. That is written down in it: jbackup audit check`,
            ]),
        "Next: jbackup list",
      ].join("\n"),
    );
    return refused.length === 0 ? 0 : 3;
  });
