import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../sys/atomicFile.js";
import type { Site } from "./site.js";

/** What something was when this host looked last: a digest in a small file of the site's home. */
const path = (site: Site, name: string): string => join(site.config.home, `${site.config.site}.${name}`);

export const digestOf = (value: unknown): string =>
  createHash("sha256").update(JSON.stringify(value)).digest("hex");

/** Null before the first look. */
export async function readMark(site: Site, name: string): Promise<string | null> {
  try {
    return (await readFile(path(site, name), "utf8")).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** The first that was made stays, whichever process made it. */
export async function makeMark(site: Site, name: string, mark: string): Promise<string> {
  try {
    await writeFileAtomic(path(site, name), `${mark}\n`);
    return mark;
  } catch (error) {
    const made = (error as NodeJS.ErrnoException).code === "EEXIST" ? await readMark(site, name) : null;
    if (made === null) throw error;
    return made;
  }
}

export const writeMark = (site: Site, name: string, mark: string): Promise<void> =>
  writeFileAtomic(path(site, name), `${mark}\n`, { overwrite: true });
