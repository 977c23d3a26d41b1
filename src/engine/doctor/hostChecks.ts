import type { Stats } from "node:fs";
import { chmod, stat } from "node:fs/promises";
import { join } from "node:path";
import type { LazySecret } from "../../domain/config.js";
import { finding, judgeMode, type ModeFacts } from "../../domain/diagnosis.js";
import { JBackupError } from "../../domain/errors.js";
import { makeDirectory } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import type { Check, Diagnosed } from "./check.js";

/** What the configuration asks for can be had. */
export const configuration = (secrets: readonly LazySecret[]): Check => ({
  group: "configuration",
  name: "configuration",
  look: async (site) => {
    const problems: JBackupError[] = [];
    for (const fetch of secrets) {
      try {
        await fetch();
      } catch (error) {
        if (!(error instanceof JBackupError)) throw error;
        problems.push(error);
      }
    }
    const { file, configFiles, warnings } = site.config;
    return [
      finding("configuration", "configuration", "ok", `${file} is valid: site ${site.config.site}`),
      ...warnings.map((warning) => finding("configuration", "configuration", "warn", warning)),
      problems.length === 0
        ? finding("configuration", "secrets", "ok", "every secret that it names can be fetched")
        : null,
      ...problems.map(({ message, hint, exitCode }) => ({
        ...finding("configuration", "secrets", "fail", message, hint ?? null),
        exit: exitCode,
      })),
      configFiles.length > 0
        ? finding("configuration", "config-files", "ok", `configFiles names ${configFiles.join(", ")}`)
        : finding(
            "configuration",
            "config-files",
            "warn",
            "configFiles is empty: of this host only jbackup's own configuration is kept",
            "name the folders in jbackup.yaml, such as configFiles: [/etc/postgresql, /etc/jbackup], then jbackup backup config",
          ),
    ].filter((one) => one !== null);
  },
});

async function statOf(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}

/** Files with secrets in them are their owner's alone, and so is the folder of catalog, keys and locks. */
export const files: Check = {
  group: "files",
  name: "modes",
  look: async (site) => {
    const { config } = site;
    const generated = config.keys.generatedIn;
    const secret = (path: string, what: string): Omit<ModeFacts, "mode"> => ({
      path,
      what,
      holdsSecret: true,
    });
    const wanted = [
      { path: config.file, what: "the configuration", holdsSecret: config.holdsSecrets },
      ...config.secretFiles.map((path) => secret(path, "the secret in")),
      ...(generated === null
        ? []
        : ["identity", "signing"].map((name) => secret(join(generated, name), "the key"))),
      secret(config.home, "the folder"),
    ];
    const found = await Promise.all(wanted.map((one) => modeFinding(one)));
    const bad = found.flat().filter(({ status }) => status !== "ok");
    const good = finding("files", "modes", "ok", "keys, secrets and their folder are kept from others");
    const sound = bad.length === 0 && found.flat().length > 0 ? [good] : bad;
    return [...sound, await homeFinding(site)];
  },
};

async function modeFinding(facts: Omit<ModeFacts, "mode">): Promise<Diagnosed[]> {
  const here = await statOf(facts.path);
  if (here === null) return []; // told where it is needed
  const judged = judgeMode({ ...facts, mode: here.mode & 0o7777 });
  const { wanted } = judged;
  if (wanted === null) return [judged.finding];
  return [
    {
      ...judged.finding,
      fix: async () => {
        await chmod(facts.path, wanted);
        return `set the mode of ${facts.path} to ${wanted.toString(8).padStart(4, "0")}`;
      },
    },
  ];
}

async function homeFinding({ config: { home } }: Site): Promise<Diagnosed> {
  const here = await statOf(home);
  if (here?.isDirectory())
    return finding("files", "home", "ok", `${home} is there, for catalog, locks and keys`);
  return {
    ...finding(
      "files",
      "home",
      here === null ? "warn" : "fail",
      here === null ? `${home} is not there yet` : `${home} is no folder`,
      here === null ? "the first backup makes it, or jbackup doctor --fix" : "set JBACKUP_HOME to a folder",
    ),
    ...(here === null
      ? {
          fix: async () => {
            await makeDirectory(home);
            return `made ${home}`;
          },
        }
      : {}),
  };
}
