import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";

const path = (site: Site): string => join(site.config.home, `${site.config.site}.retention`);

const markOf = (site: Site): string =>
  createHash("sha256").update(JSON.stringify(site.config.retention)).digest("hex");

/** Whether the policy is another one than that of the last cleanup on this host. The very first one is not a change. */
export async function isPolicyNew(site: Site): Promise<boolean> {
  try {
    return (await readFile(path(site), "utf8")).trim() !== markOf(site);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

export const rememberPolicy = (site: Site): Promise<void> =>
  writeFileAtomic(path(site), `${markOf(site)}\n`, { overwrite: true });
