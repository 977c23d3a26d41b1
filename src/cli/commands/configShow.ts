import { stringify } from "yaml";
import { describeConfig } from "../../config/config.js";
import type { CommandContext, CommandRun } from "../context.js";
import { isSet } from "../flags.js";
import { tableText } from "../table.js";

const requestOf = ({ environment, configFile, output }: CommandContext) => ({
  environment,
  file: configFile,
  onSecret: (text: string) => output.secret(text),
});

const inline = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

/** `a.b.0.c` paths back to a tree. */
function treeOf(values: { path: string; value: unknown }[]): unknown {
  const root: Record<string, unknown> = {};
  for (const { path, value } of values) {
    const parts = path.split(".");
    let at: Record<string, unknown> = root;
    for (const [index, part] of parts.entries()) {
      if (index === parts.length - 1) at[part] = value;
      else {
        at[part] ??= /^\d+$/.test(parts[index + 1] ?? "") ? [] : {};
        at = at[part] as Record<string, unknown>;
      }
    }
  }
  return root;
}

export const run: CommandRun = async (context, _args, options) => {
  const { file, values } = await describeConfig(requestOf(context));
  if (isSet(options, "origin")) {
    const table = tableText(
      values,
      [
        { title: "KEY", value: ({ path }) => path, rank: 0 },
        { title: "VALUE", value: ({ value }) => inline(value), rank: 0 },
        { title: "ORIGIN", value: ({ origin }) => origin, rank: 1 },
      ],
      context.output.columns,
    );
    context.output.answer({ file, values }, `# ${file}\n${table}`);
  } else {
    const tree = treeOf(values);
    context.output.answer(tree, `# ${file}\n${stringify(tree)}`);
  }
  return 0;
};
