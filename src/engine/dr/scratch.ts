import { randomBytes } from "node:crypto";
import { chown, lstat, mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { isOwnFolder, objectIn, readOwnFile } from "../../sys/ownFiles.js";
import { isAlive, isProcessMark, ownMark, type ProcessMark } from "../../sys/processes.js";
import { stopLeftServer } from "../recovery/serverFor.js";
import type { Site } from "../site.js";

const FOLDER = /^jbackup-drill-[0-9a-f]{8}$/;

interface Owner extends ProcessMark {
  run: string;
}

const ownerFile = (folder: string): string => join(folder, "owner.json");

/** A folder that only this user and the servers in it can enter; short, for a socket's path must stay under 108 bytes. */
export async function makeScratch(site: Site, run: string): Promise<string> {
  const folder = join(site.environment.temporaryDirectory, `jbackup-drill-${randomBytes(4).toString("hex")}`);
  await mkdir(folder, { mode: 0o700 });
  const owner = await (await site.clusters()).unprivilegedOwner();
  if (owner) await chown(folder, owner.uid, owner.gid);
  await claimScratch(folder, run);
  return folder;
}

export const claimScratch = (folder: string, run: string): Promise<void> =>
  writeFileAtomic(ownerFile(folder), JSON.stringify({ ...ownMark(), run } satisfies Owner), {
    overwrite: true,
  });

/** Where everybody may make folders, one of that name may be anybody's. */
export async function isOwnScratch(site: Site, folder: string): Promise<boolean> {
  const owner = await (await site.clusters()).unprivilegedOwner();
  return isOwnFolder(folder, owner ? [owner.uid] : []);
}

/** Ends the servers in it, then removes it. */
export async function removeScratch(site: Site, folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  for (const name of names) {
    const dataDirectory = join(folder, name);
    const found = await lstat(dataDirectory);
    if (!found.isDirectory()) continue;
    const owner = site.environment.isRoot ? { uid: found.uid, gid: found.gid } : null;
    await stopLeftServer(site, dataDirectory, owner);
  }
  await rm(folder, { recursive: true, force: true });
}

/** Our folders of drills whose process is gone; `run` is null where a power cut tore what told it. */
export async function leftScratches(site: Site): Promise<{ folder: string; run: string | null }[]> {
  const parent = site.environment.temporaryDirectory;
  const found: { folder: string; run: string | null }[] = [];
  for (const name of (await readdir(parent)).filter((entry) => FOLDER.test(entry))) {
    const folder = join(parent, name);
    if (!(await isOwnScratch(site, folder))) continue;
    const file = await readOwnFile(ownerFile(folder));
    if (file.whose !== "ours") continue;
    const owner = objectIn(file.text);
    const run = typeof owner?.run === "string" ? owner.run : null;
    if (!isProcessMark(owner)) found.push({ folder, run: null });
    else if (!isAlive(owner)) found.push({ folder, run });
  }
  return found;
}
