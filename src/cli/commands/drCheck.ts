import { checkRunbooks } from "../../engine/runbooks.js";
import { type CommandRun, withSiteToRead } from "../context.js";

export const run: CommandRun = (context) =>
  withSiteToRead(context, async (site) => {
    const checked = await checkRunbooks(site);
    const lines = checked.flatMap(({ file, name, problems, warnings, passedOver }) => [
      problems.length > 0
        ? `fail  ${name ?? file} (${file})`
        : passedOver === null
          ? `ok    ${name}`
          : `none  ${name} is not for this site and was passed over: ${passedOver}`,
      ...problems.map(({ path, message }) => `        ${path === "" ? "" : `${path}: `}${message}`),
      ...warnings.map((warning) => `        note: ${warning}`),
    ]);
    context.output.answer(checked, lines.length === 0 ? "There are no runbooks." : lines.join("\n"));
    return checked.some(({ problems }) => problems.length > 0) ? 2 : 0;
  });
