import { checkRunbooks } from "../../engine/runbooks.js";
import { type CommandRun, withSiteToRead } from "../context.js";

export const run: CommandRun = (context) =>
  withSiteToRead(context, async (site) => {
    const checked = await checkRunbooks(site);
    const lines = checked.flatMap(({ file, name, problems, warnings }) => [
      ...(problems.length === 0 ? [`ok    ${name}`] : [`fail  ${name ?? file} (${file})`]),
      ...problems.map(({ path, message }) => `        ${path === "" ? "" : `${path}: `}${message}`),
      ...warnings.map((warning) => `        note: ${warning}`),
    ]);
    context.output.answer(checked, lines.length === 0 ? "There are no runbooks." : lines.join("\n"));
    return checked.some(({ problems }) => problems.length > 0) ? 2 : 0;
  });
