import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { JBackupError } from "../domain/errors.js";
import { inShell } from "../domain/shell.js";
import type { CommandContext, Options } from "./context.js";
import { textFlag } from "./flags.js";

const isDirectory = async (path: string): Promise<boolean> =>
  stat(path).then(
    (facts) => facts.isDirectory(),
    (error: NodeJS.ErrnoException) => {
      if (["ENOENT", "ENOTDIR"].includes(error.code ?? "")) return false;
      throw error;
    },
  );

/**
 * The whole path of the file that --out names. Its folder must be there: one that is misspelt, or a disk that is not mounted, would
 * be filled where nobody looks.
 */
export async function outFile(
  { environment }: Pick<CommandContext, "environment">,
  options: Options,
  usual?: string,
): Promise<string | undefined> {
  const out = textFlag(options, "out") ?? usual;
  if (out === undefined) return undefined;
  const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });
  if (out === "") throw usage("--out names no file", "give the path of a file");
  const file = resolve(environment.workingDirectory, out);
  if (await isDirectory(file)) throw usage(`${file} is a folder`, "name a file in it with --out");
  const folder = dirname(file);
  if (!(await isDirectory(folder)))
    throw usage(
      `there is no folder ${folder} to write into`,
      `make it first (mkdir -p ${inShell(folder)}), or name a file in another one with --out`,
    );
  return file;
}
