import { checkRunbooks } from "../../engine/runbooks.js";
import { type CommandRun, withSiteToRead } from "../context.js";
import { wrapped } from "../table.js";

const INDENT = " ".repeat(8);

export const run: CommandRun = (context) =>
  withSiteToRead(context, async (site) => {
    const checked = await checkRunbooks(site);
    const line = (head: string, text: string): string =>
      head + wrapped(text, context.output.columns - head.length).join(`\n${" ".repeat(head.length)}`);
    const lines = checked.flatMap(({ file, name, problems, warnings, passedOver }) => [
      problems.length > 0
        ? line("fail  ", `${name ?? file} (${file})`)
        : passedOver === null
          ? line("ok    ", name ?? file)
          : line("none  ", `${name} is not for this site and was passed over: ${passedOver}`),
      ...problems.map(({ path, message }) => line(INDENT, `${path === "" ? "" : `${path}: `}${message}`)),
      ...warnings.map((warning) => line(INDENT, `note: ${warning}`)),
    ]);
    context.output.answer(checked, lines.length === 0 ? "There are no runbooks." : lines.join("\n"));
    return checked.some(({ problems }) => problems.length > 0) ? 2 : 0;
  });
