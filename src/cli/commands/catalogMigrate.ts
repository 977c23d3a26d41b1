import { type CommandRun, withSite } from "../context.js";

export const run: CommandRun = (context) =>
  withSite(context, async (site) => {
    const migrations = await site.catalog.migrate();
    const { location } = site.catalog;
    context.output.answer({ catalog: location, migrations }, `The catalog ${location} is up to date.`);
    return 0;
  });
