import { randomBytes } from "node:crypto";
import { chown, lstat, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { claimFolder, makeClaimedFolder, readClaim } from "../../sys/claimedFolder.js";
import { isOwnFolder, objectIn } from "../../sys/ownFiles.js";
import { isAlive, isProcessMark, ownMark, type ProcessMark } from "../../sys/processes.js";
import { stopLeftServer } from "../recovery/serverFor.js";
import type { Site } from "../site.js";

const FOLDER = /^jbackup-drill-[0-9a-f]{8}$/;

interface Owner extends ProcessMark {
  run: string;
  /** Of the site whose drill it is. */
  home: string;
}

const ownerOf = (site: Site, run: string): Owner => ({ ...ownMark(), run, home: site.config.home });

/** A folder that only this user and the servers in it can enter; short, for a socket's path must stay under 108 bytes. */
export async function makeScratch(site: Site, run: string): Promise<string> {
  const folder = join(site.environment.temporaryDirectory, `jbackup-drill-${randomBytes(4).toString("hex")}`);
  const owner = await (await site.clusters()).unprivilegedOwner();
  await makeClaimedFolder(folder, ownerOf(site, run), () => site.step("drill-begun"));
  if (owner) await chown(folder, owner.uid, owner.gid);
  site.step("drill-made");
  return folder;
}

export const claimScratch = (site: Site, folder: string, run: string): Promise<void> =>
  claimFolder(folder, ownerOf(site, run));

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

interface LeftScratch {
  folder: string;
  /** Null where a power cut tore what told it. */
  run: string | null;
  /** Whether it is of this very site; those of early versions do not tell. */
  isHere: boolean;
}

/** Our folders of drills whose process is gone. */
export async function leftScratches(site: Site): Promise<LeftScratch[]> {
  const parent = site.environment.temporaryDirectory;
  const found: LeftScratch[] = [];
  for (const name of (await readdir(parent)).filter((entry) => FOLDER.test(entry))) {
    const folder = join(parent, name);
    if (!(await isOwnScratch(site, folder))) continue;
    const file = await readClaim(folder);
    if (file.whose !== "ours") continue;
    const owner = objectIn(file.text);
    const run = typeof owner?.run === "string" ? owner.run : null;
    const isHere = owner?.home === site.config.home;
    if (!isProcessMark(owner)) found.push({ folder, run: null, isHere });
    else if (!isAlive(owner)) found.push({ folder, run, isHere });
  }
  return found;
}
