import { checkStorages } from "../../engine/checkStorages.js";
import { statusText } from "../backupText.js";
import { type CommandRun, withSite } from "../context.js";
import { tableText } from "../table.js";
import { durationText } from "../text.js";

export const run: CommandRun = (context, names) =>
  withSite(context, async (site) => {
    const checked = await checkStorages(site, names);
    const { paint, columns } = context.output;
    const text = checked.flatMap(({ storage, kind, location, ok, checks }) => [
      `${paint.bold(storage)} (${kind}) ${location}: ${ok ? paint.green("ok") : paint.red("failed")}`,
      tableText(
        checks,
        [
          { title: "  CHECK", value: ({ name }) => `  ${name}`, rank: 0 },
          {
            title: "RESULT",
            value: ({ status }) => status,
            rank: 0,
            paint: (text) => statusText(text, paint),
          },
          { title: "TOOK", value: ({ durationMs }) => durationText(durationMs), align: "right", rank: 1 },
        ],
        columns,
      ),
      ...checks
        .filter(({ error }) => error !== undefined)
        .map(({ name, error }) => `  ${paint.red(name)}: ${error}`),
      "",
    ]);
    context.output.answer(checked, text.join("\n").trimEnd());
    return checked.every(({ ok }) => ok) ? 0 : 1;
  });
