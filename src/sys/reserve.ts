import { rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isFullDisk } from "./systemErrors.js";

const RESERVE_BYTES = 4 * 2 ** 20;
/** Below this nothing is recorded reliably any more. */
const LEAST_BYTES = 2 * 2 ** 20;
const PLENTY_BYTES = 4 * RESERVE_BYTES;

/**
 * A file in the folder that is there to be removed: on a full disk its room lets runs go on that record what they do, or make
 * room themselves. Answers whether that had to be.
 */
export async function keepReserve(folder: string): Promise<{ isFull: boolean }> {
  const file = join(folder, "reserve");
  const { bavail, bsize } = await statfs(folder);
  const freeBytes = bavail * bsize;
  if (freeBytes < LEAST_BYTES) {
    await rm(file, { force: true });
    return { isFull: true };
  }
  if (freeBytes <= PLENTY_BYTES || (await isThere(file))) return { isFull: false };
  try {
    await writeFile(file, Buffer.alloc(RESERVE_BYTES, 1), { mode: 0o600 });
    return { isFull: false };
  } catch (error) {
    // a quota that the file system does not tell of; whoever needs room will be told of it by name
    await rm(file, { force: true });
    if (error instanceof Error && "syscall" in error) return { isFull: isFullDisk(error) };
    throw error;
  }
}

async function isThere(file: string): Promise<boolean> {
  try {
    return (await stat(file)).size === RESERVE_BYTES;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}
