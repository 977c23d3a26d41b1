import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError, reasonOf } from "../domain/errors.js";
import { writeFileAtomic } from "../sys/atomicFile.js";
import type { Site } from "./site.js";

const FILE = "site";

/** What every job left in its home before homes remembered their site. */
const TRACES = [".config", ".chain.json"];

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? "";
/** Whoever may not even look is told so by whatever he wants to do there. */
const TELLS_NOTHING = ["ENOENT", "ENOTDIR", "EACCES"];

async function orNothing<Found>(look: Promise<Found>): Promise<Found | null> {
  try {
    return await look;
  } catch (error) {
    if (TELLS_NOTHING.includes(codeOf(error))) return null;
    throw error;
  }
}

const claimantOf = async (home: string): Promise<string | null> =>
  (await orNothing(readFile(join(home, FILE), "utf8")))?.trim() || null;

/** The sites that a folder is known to be the home of; none of a new one. */
export async function sitesOfHome(home: string): Promise<string[]> {
  const claimant = await claimantOf(home);
  if (claimant !== null) return [claimant];
  const traced = ((await orNothing(readdir(home))) ?? []).flatMap((name) => {
    const ending = TRACES.find((one) => name.endsWith(one) && name.length > one.length);
    return ending === undefined ? [] : [name.slice(0, -ending.length)];
  });
  return [...new Set(traced)];
}

/**
 * A home is one site's. Its catalog, its journal and its records of runs do not say whose they are: of two sites in one home each would
 * take the other's running backup for one that was killed, and the other's newest backup for its own.
 */
export async function requireOwnHome({ home, site }: Pick<Site["config"], "home" | "site">): Promise<void> {
  const sites = await sitesOfHome(home);
  const [other] = sites;
  if (other === undefined || sites.includes(site)) return;
  throw new JBackupError("target_refused", `${home} is the home of site ${other}, not of ${site}`, {
    hint: `give ${site} a home of its own: JBACKUP_HOME=${home}-${site}; if it is ${other} under a new name, write \`site: ${other}\` into its configuration`,
  });
}

const claimed = new WeakSet<Site>();

/** From the first job on, the home remembers whose it is. */
export async function claimHome(site: Site): Promise<void> {
  if (claimed.has(site)) return;
  const { config } = site;
  await requireOwnHome(config);
  if ((await claimantOf(config.home)) === null) {
    try {
      await writeFileAtomic(join(config.home, FILE), `${config.site}\n`);
    } catch (error) {
      // another process was faster, for this site or for another; on a full disk the traces must do
      if (codeOf(error) === "EEXIST") await requireOwnHome(config);
      else
        site.report.warn(
          `${config.home} could not be marked as the home of ${config.site}: ${reasonOf(error)}`,
        );
    }
  }
  claimed.add(site);
}
