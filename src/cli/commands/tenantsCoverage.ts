import { type Coverage, tenantCoverage } from "../../engine/tenants/coverage.js";
import { type CommandRun, withSite } from "../context.js";
import { isSet } from "../flags.js";
import { tableText } from "../table.js";
import { countText } from "../text.js";

const coverageText = ({ tables, problems, root }: Coverage, columns: number, isVerbose: boolean): string => {
  const shown = tables.flatMap(({ table, findings }) =>
    findings
      .filter(({ severity }) => isVerbose || severity !== "info")
      .map(
        ({ severity, message }) =>
          `${severity === "error" ? "Error" : severity === "warning" ? "Warning" : "Note"}: ${table}: ${message}`,
      ),
  );
  const hidden = tables
    .flatMap(({ findings }) => findings)
    .filter(({ severity }) => severity === "info").length;
  return [
    `Tenants are the rows of ${root}.`,
    tableText(
      tables,
      [
        { title: "TABLE", value: ({ table }) => table, rank: 0 },
        { title: "CLASS", value: ({ class: is }) => is, rank: 1 },
        { title: "OWNER", value: ({ owner }) => owner ?? "", rank: 2 },
        {
          title: "ROWS",
          value: ({ rows }) => (rows === null ? "" : countText(rows)),
          align: "right",
          rank: 3,
        },
        { title: "WHY", value: ({ why }) => why, rank: 4 },
      ],
      columns,
    ),
    ...shown,
    ...(isVerbose || hidden === 0 ? [] : [`${hidden} notes more with --verbose.`]),
    problems.length === 0
      ? "Every table is decided: jbackup backup tenant --all can tell whose rows are whose."
      : `${problems.length} ${problems.length === 1 ? "problem" : "problems"} to settle in jbackup.yaml or in the data.`,
  ].join("\n");
};

export const run: CommandRun = (context, _args, options) =>
  withSite(context, async (site) => {
    const coverage = await tenantCoverage(site);
    context.output.answer(
      coverage,
      coverageText(coverage, context.output.columns, isSet(options, "verbose")),
    );
    return isSet(options, "check") && coverage.problems.length > 0 ? 4 : 0;
  });
