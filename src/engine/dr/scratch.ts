import { randomBytes } from "node:crypto";
import { chown, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isAlive, ownMark, type ProcessMark } from "../../sys/processes.js";
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
  writeFile(ownerFile(folder), JSON.stringify({ ...ownMark(), run } satisfies Owner), { mode: 0o600 });

/** Ends the servers in it, then removes it. */
export async function removeScratch(site: Site, folder: string): Promise<void> {
  const { stopServer, findBinDirectories } = await site.clusters();
  const environment = { path: site.environment.path, home: site.environment.home };
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const bins = await findBinDirectories("pg_ctl", environment, site.config.database.binDirectory);
  for (const name of names) {
    const dataDirectory = join(folder, name);
    const pid = await stat(join(dataDirectory, "postmaster.pid")).catch(() => null);
    const [newest] = bins;
    if (pid === null || newest === undefined) continue;
    const { uid, gid } = await stat(dataDirectory);
    const owner = site.environment.isRoot ? { uid, gid } : null;
    await stopServer({ dataDirectory, binDirectory: newest.path, environment, owner });
  }
  await rm(folder, { recursive: true, force: true });
}

/** Folders of drills whose process is gone. */
export async function leftScratches(site: Site): Promise<{ folder: string; run: string }[]> {
  const parent = site.environment.temporaryDirectory;
  const found: { folder: string; run: string }[] = [];
  for (const name of (await readdir(parent)).filter((entry) => FOLDER.test(entry))) {
    const folder = join(parent, name);
    const text = await readFile(ownerFile(folder), "utf8").catch(() => null);
    if (text === null) continue; // not readable by us: not ours
    const owner = JSON.parse(text) as Owner;
    if (!isAlive(owner)) found.push({ folder, run: owner.run });
  }
  return found;
}
