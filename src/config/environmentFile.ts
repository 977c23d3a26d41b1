import { readFileSync } from "node:fs";
import { variablesIn } from "../domain/environmentFile.js";
import { JBackupError, reasonOf } from "../domain/errors.js";

/** Sets the variables of a file, over those that are set. One that is not there sets none, as with systemd's EnvironmentFile=-FILE. */
export function takeEnvironmentFile(file: string, variables: NodeJS.ProcessEnv = process.env): void {
  try {
    Object.assign(variables, variablesIn(readFileSync(file, "utf8")));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw new JBackupError("config_invalid", `cannot read ${file}: ${reasonOf(error)}`, {
      hint: "give --environment-file a file of NAME=value lines that this user may read",
      cause: error,
    });
  }
}
