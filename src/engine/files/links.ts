import { lstat, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { Places } from "./places.js";

/** The only folder in a cluster that may be a link to another disk; tablespaces have their own place. */
const walOf = ({ directory }: Places): string => join(directory, "pg_wal");

/** Whether content is kept behind this link. Any other link gives way to what the backup has in its place, and is never followed. */
export const isWalElsewhere = async (path: string, places: Places): Promise<boolean> =>
  path === walOf(places) &&
  (await kindOf(path)) === "link" &&
  (await statOrNull(path))?.isDirectory() === true;

/** What is written and removed outside of the target must be the cluster's own: its owner may have laid a link to anything. */
export async function refuseForeignPlaces(
  places: Places,
  ownerUid: number,
  mayBeTaken = false,
): Promise<void> {
  const wal = walOf(places);
  if ((await isWalElsewhere(wal, places)) && !(await isOf(ownerUid, wal)))
    throw foreign(`${wal} is a link to a directory that`, "remove the link");
  for (const place of places.tablespaces.values()) {
    if ((await statOrNull(place)) === null || (await isOf(ownerUid, place))) continue;
    if (mayBeTaken && (await isOf(0, place))) continue; // by the run that was killed
    // made by hand for a tablespace that moves
    if ((await kindOf(place)) === "folder" && (await readdir(place)).length === 0) continue;
    throw foreign(
      `the tablespace directory ${place}`,
      "give its tablespace another one with --tablespace NAME=DIR",
    );
  }
}

const foreign = (what: string, instead: string): JBackupError =>
  new JBackupError("target_refused", `${what} does not belong to the owner of the cluster`, {
    hint: `${instead}, or name another directory with --into-dir`,
  });

/** A folder of the backup stands where something else is: that goes, and what a link leads to is not touched. */
export async function makeRoomForFolder(path: string, places: Places): Promise<void> {
  const kind = await kindOf(path);
  if (kind === "nothing" || kind === "folder" || (await isWalElsewhere(path, places))) return;
  await rm(path, { force: true });
}

async function kindOf(path: string): Promise<"nothing" | "folder" | "link" | "file"> {
  try {
    const found = await lstat(path);
    if (found.isDirectory()) return "folder";
    return found.isSymbolicLink() ? "link" : "file";
  } catch (error) {
    if (isMissing(error)) return "nothing";
    throw error;
  }
}

const isOf = async (uid: number, path: string): Promise<boolean> => (await statOrNull(path))?.uid === uid;

/** Null also for a link to nowhere. */
async function statOrNull(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

const isMissing = (error: unknown): boolean =>
  ["ENOENT", "ENOTDIR", "ELOOP"].includes((error as NodeJS.ErrnoException).code ?? "");
