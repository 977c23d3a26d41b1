import { resolve } from "node:path";
import { JBackupError } from "../domain/errors.js";
import { nearest } from "../domain/similar.js";
import type { CommandContext, Options } from "./context.js";
import { textFlag } from "./flags.js";

const KINDS = ["systemd", "cron"] as const;

export function kindIn(word: string | undefined): (typeof KINDS)[number] | undefined {
  if (word === undefined || KINDS.some((kind) => kind === word))
    return word as (typeof KINDS)[number] | undefined;
  const meant = nearest(word, KINDS);
  throw new JBackupError("usage", `"${word}" runs no jobs here${meant ? `; did you mean ${meant}?` : ""}`, {
    hint: `choose one of ${KINDS.join(", ")}`,
  });
}

export const directoryIn = ({ environment }: CommandContext, options: Options): string | null => {
  const directory = textFlag(options, "dir");
  return directory === undefined ? null : resolve(environment.workingDirectory, directory);
};
