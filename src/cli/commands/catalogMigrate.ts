import type { CommandRun } from "../context.js";

export const run: CommandRun = async ({ openers, configFile, environment, output }) => {
  const done = await openers.migrateCatalog({
    configFile,
    environment,
    onSecret: (text) => output.secret(text),
  });
  const what =
    done.migrations.length === 0 ? "was up to date" : `is up to date now (${done.migrations.join(", ")})`;
  output.answer(done, `The catalog ${done.catalog} ${what}.`);
  return 0;
};
