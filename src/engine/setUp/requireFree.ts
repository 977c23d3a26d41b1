import { lstat, readFile } from "node:fs/promises";
import { dirname, join, parse } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { sitesOfHome } from "../home.js";
import type { SetUpParts } from "./parts.js";
import type { SiteFiles } from "./writeSite.js";

export const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (["ENOENT", "ENOTDIR"].includes(error.code ?? "")) return false;
      throw error;
    },
  );

const SYSTEM = "/etc/jbackup";

/**
 * With the configuration where that lies in a folder of jbackup's own, which may have those of several sites, else with everything
 * else that jbackup keeps.
 */
export function keysFolder({ environment }: SetUpParts, { config }: SiteFiles): string {
  if (dirname(config) !== SYSTEM) return join(environment.jbackupHome, "keys");
  const { name } = parse(config);
  return join(SYSTEM, name === "jbackup" ? "keys" : `${name}-keys`);
}

/** Stands among new keys until the configuration that makes a site of them is written. */
export const UNFINISHED = "unfinished";

export const unfinishedText = ({ config, kit }: SiteFiles): string => JSON.stringify({ config, kit });

/** What a run that was killed had in mind; null where the keys are those of a site. */
async function unfinishedIn(keys: string): Promise<SiteFiles | null> {
  try {
    const files = JSON.parse(await readFile(join(keys, UNFINISHED), "utf8")) as SiteFiles;
    return (await isThere(files.config)) ? null : files;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** The kit that a killed run left, if it is where this one goes. */
export async function unusedKit(parts: SetUpParts, files: SiteFiles): Promise<string | null> {
  const unfinished = await unfinishedIn(keysFolder(parts, files));
  return unfinished?.kit === files.kit && (await isThere(files.kit)) ? files.kit : null;
}

/**
 * Nothing that exists is overwritten: an old configuration or kit may be the only one of its kind. And a home that has a site keeps
 * it: another one would write into its catalog, under keys that open none of its backups.
 */
export async function requireFree(parts: SetUpParts, files: SiteFiles): Promise<void> {
  const { config, kit } = files;
  if (await isThere(config))
    throw refusal(`${config} exists already`, [
      "it is a site already: jbackup config validate checks it; or name another file with --out",
    ]);
  await requireNewHome(parts, files);
  if ((await isThere(kit)) && (await unusedKit(parts, files)) === null)
    throw refusal(`${kit} exists already`, [
      "it may be the only kit of its keys: move it away, or name another file with --kit",
    ]);
}

async function requireNewHome(parts: SetUpParts, files: SiteFiles): Promise<void> {
  const home = parts.environment.jbackupHome;
  const [site] = await sitesOfHome(home);
  const another = "for another site, set JBACKUP_HOME to another folder";
  if (site !== undefined)
    throw refusal(`${home} is the home of site ${site} already`, [
      "jbackup config validate --config FILE checks its configuration",
      another,
    ]);
  const catalog = join(home, "catalog.db");
  if (await isThere(catalog)) throw refusal(`${catalog} is the catalog of a site already`, [another]);
  const keys = keysFolder(parts, files);
  if ((await isThere(keys)) && (await unfinishedIn(keys)) === null)
    throw refusal(`${keys} holds the keys of a site already`, [
      "what they open is lost without them: move them away only if that is nothing",
      dirname(keys) === SYSTEM ? `for another site, name another file in ${SYSTEM} with --out` : another,
    ]);
}

const refusal = (message: string, hints: string[]): JBackupError =>
  new JBackupError("target_refused", message, { hint: hints.join("; ") });
