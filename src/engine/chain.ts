import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isJBackupError } from "../domain/errors.js";
import { writeFileAtomic } from "../sys/atomicFile.js";
import type { Site } from "./site.js";

/** Where the site's chain of manifests stands: every manifest names the one before it. */
export interface ChainEnd {
  sequence: number;
  digest: string | null;
}

const START: ChainEnd = { sequence: 0, digest: null };

const chainFile = (site: Site): string => join(site.config.home, `${site.config.site}.chain.json`);

async function fromFile(site: Site): Promise<ChainEnd | null> {
  try {
    return JSON.parse(await readFile(chainFile(site), "utf8")) as ChainEnd;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

async function fromCatalog(site: Site): Promise<ChainEnd | null> {
  const newestOf = async (kind: "full" | "config"): Promise<ChainEnd[]> => {
    const [newest] = await site.catalog.backups({ kind, status: ["completed", "verified"], limit: 1 });
    const sequence = newest?.metadata.sequence;
    return newest && typeof sequence === "number" ? [{ sequence, digest: newest.checksum }] : [];
  };
  try {
    const ends = [...(await newestOf("full")), ...(await newestOf("config"))];
    return ends.toSorted((a, b) => b.sequence - a.sequence)[0] ?? null;
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return null; // the file alone will do
    throw error;
  }
}

/** The further of what this host and the catalog remember. */
export async function chainEnd(site: Site): Promise<ChainEnd> {
  const known = [await fromFile(site), await fromCatalog(site), START].filter((end) => end !== null);
  return known.reduce((best, end) => (end.sequence > best.sequence ? end : best), START);
}

export const moveChain = (site: Site, end: ChainEnd): Promise<void> =>
  writeFileAtomic(chainFile(site), `${JSON.stringify(end)}\n`, { overwrite: true });
