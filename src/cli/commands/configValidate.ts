import { loadConfig, secretsOf } from "../../config/config.js";
import { JBackupError } from "../../domain/errors.js";
import type { CommandRun } from "../context.js";

export const run: CommandRun = async (context) => {
  const { environment, configFile, output } = context;
  const config = await loadConfig({ environment, file: configFile, onSecret: (text) => output.secret(text) });
  const problems: JBackupError[] = [];
  for (const fetch of secretsOf(config)) {
    try {
      await fetch();
    } catch (error) {
      if (!(error instanceof JBackupError)) throw error;
      problems.push(error);
    }
  }
  if (problems.length > 0) {
    const messages = problems.map(({ message }) => message);
    throw new JBackupError(
      problems.every(({ code }) => code === "no_key") ? "no_key" : "config_invalid",
      `${config.file} is well formed, but:\n  ${messages.join("\n  ")}`,
      {
        hint: "make these available to this user, or change where the configuration takes them from",
        details: { problems: messages },
      },
    );
  }
  const storages = config.storages.map(({ name, kind }) => ({ name, kind }));
  const answer = { file: config.file, valid: true, site: config.site, storages, minCopies: config.minCopies };
  output.answer(
    answer,
    `${config.file} is valid: site ${config.site}, storages ${storages.map(({ name, kind }) => `${name} (${kind})`).join(", ")}.\nNext: jbackup storages check`,
  );
  return 0;
};
