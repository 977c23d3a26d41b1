import type { Stats } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { JBackupError, reasonOf } from "../domain/errors.js";
import type { Config } from "./config.js";
import type { Environment } from "./environment.js";

export interface LoadRequest {
  environment: Environment;
  /** --config */
  file?: string | undefined;
  onSecret: (text: string) => void;
}

const MINIMAL = "a file with the one line `database: {url: postgresql:///DATABASE}` is enough to start";

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw new JBackupError("config_missing", `cannot look at ${file}: ${reasonOf(error)}`, { cause: error });
  }
}

/**
 * A configuration names programs to run, and nobody asked for this one by name: who comes by a folder of somebody else's must
 * not run what that one wrote there.
 */
async function requireTrusted(file: string, { sudoUid, workingDirectory }: Environment): Promise<void> {
  const trusted = [0, process.getuid?.() ?? 0, sudoUid];
  const [ofFile, ofFolder] = [await stat(file), await stat(workingDirectory)];
  const isOthers = ({ uid }: Stats): boolean => !trusted.includes(uid);
  const isOpen = ({ mode }: Stats): boolean => (mode & 0o002) !== 0;
  const isSticky = (ofFolder.mode & 0o1000) !== 0; // nobody replaces another one's file there
  if ([ofFile, ofFolder].some(isOthers) || isOpen(ofFile) || (isOpen(ofFolder) && !isSticky))
    throw new JBackupError("config_missing", `${file} is not taken unasked: others than you can write it`, {
      hint: `if it is meant, name it: --config ${file}`,
    });
}

export async function findConfigFile({
  environment,
  file,
}: Pick<LoadRequest, "environment" | "file">): Promise<string> {
  if (file === "")
    throw new JBackupError("config_missing", "--config names no file", {
      hint: `give the path of one, or leave it out: ${MINIMAL}`,
    });
  const asked = file ?? environment.variable("JBACKUP_CONFIG");
  if (asked !== undefined && asked !== "") {
    const path = isAbsolute(asked) ? asked : resolve(environment.workingDirectory, asked);
    if (environment.configInUse !== undefined || (await exists(path))) return path;
    const source = file === undefined ? "$JBACKUP_CONFIG" : "--config";
    throw new JBackupError("config_missing", `there is no configuration file ${path}`, {
      hint: `correct ${source}, or write that file: ${MINIMAL}`,
    });
  }
  const here = join(environment.workingDirectory, "jbackup.yaml");
  const places = [here, "/etc/jbackup/jbackup.yaml"];
  for (const place of places) {
    if (!(await exists(place))) continue;
    if (place === here) await requireTrusted(here, environment);
    return place;
  }
  throw new JBackupError("config_missing", "no configuration file was found", {
    hint: `looked for ${places.join(" and ")}; jbackup init writes one, or name it with --config: ${MINIMAL}`,
  });
}

export async function readConfigText(request: LoadRequest): Promise<{ file: string; text: string }> {
  const file = await findConfigFile(request);
  const source = request.environment.configInUse ?? file;
  const text = await readFile(source, "utf8").catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "EISDIR")
      throw new JBackupError("config_missing", `${file} is a folder, and no configuration file`, {
        hint: `name a file in it, such as --config ${join(file, "jbackup.yaml")}`,
      });
    throw new JBackupError("config_missing", `cannot read ${source}: ${reasonOf(error)}`, {
      hint: "check that it is a file which this user may read",
      cause: error,
    });
  });
  return { file, text };
}

export async function loadConfig(request: LoadRequest): Promise<Config> {
  const { file, text } = await readConfigText(request);
  const { parseConfig } = await import("./parse.js"); // half of a short command's time
  return parseConfig(text, file, request);
}
