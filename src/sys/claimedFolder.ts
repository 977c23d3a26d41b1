import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { writeFileAtomic } from "./atomicFile.js";
import { isOwnFolder, type OwnFile, readOwnFile } from "./ownFiles.js";
import { isAlive, type ProcessMark } from "./processes.js";

const BEGUN = /^jbackup-begun-(\d+)-(\d+|x)-[0-9a-f]{8}$/;

const claimIn = (folder: string): string => join(folder, "owner.json");

/** Says whose folder it is: when that process is gone, the next run may remove it. */
export const claimFolder = (folder: string, claim: ProcessMark): Promise<void> =>
  writeFileAtomic(claimIn(folder), JSON.stringify(claim), { overwrite: true });

export const readClaim = (folder: string): Promise<OwnFile> => readOwnFile(claimIn(folder));

/**
 * Makes a folder that says whose it is from its first moment on: until the claim stands in it, it bears a name that names
 * this process. So nothing that a killed run had begun to make is nobody's.
 */
export async function makeClaimedFolder(
  path: string,
  claim: ProcessMark,
  onBegun: () => void = () => undefined,
): Promise<void> {
  const process = `${claim.pid}-${claim.startTicks ?? "x"}`;
  const begun = join(dirname(path), `jbackup-begun-${process}-${randomBytes(4).toString("hex")}`);
  await mkdir(begun, { mode: 0o700 });
  try {
    onBegun();
    await claimFolder(begun, claim);
    await rename(begun, path);
  } catch (error) {
    await rm(begun, { recursive: true, force: true });
    throw error;
  }
}

/** Removes what processes that are gone had only begun to make; answers the folders. No server was ever given one of these. */
export async function sweepBegunFolders(parent: string): Promise<string[]> {
  const swept: string[] = [];
  for (const name of await readdir(parent)) {
    const [, pid, ticks] = BEGUN.exec(name) ?? [];
    if (pid === undefined || ticks === undefined) continue;
    if (isAlive({ pid: Number(pid), startTicks: ticks === "x" ? null : ticks, bootId: null })) continue;
    const folder = join(parent, name);
    if (!(await isOwnFolder(folder))) continue; // where everybody may make folders, anybody's may bear such a name
    await rm(folder, { recursive: true, force: true });
    swept.push(folder);
  }
  return swept;
}
