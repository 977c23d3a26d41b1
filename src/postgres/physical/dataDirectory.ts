import type { Dirent } from "node:fs";
import { type FileHandle, open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { isEmptied, isLeftOut, withoutUnlogged } from "./exclusions.js";

export interface FoundFile {
  path: string;
  mode: number;
  size: number;
}

export interface FoundFolder {
  path: string;
  mode: number;
}

export interface Walked {
  files: FoundFile[];
  folders: FoundFolder[];
  /** Sockets, devices and links that no base backup holds. */
  skipped: string[];
}

const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";

/** Whether the directory can be read here, and is that of the very server that was asked. */
export async function isReadableHere(
  directory: string,
  systemId: string,
  startedAtSeconds: number,
): Promise<boolean> {
  try {
    const control = await readFile(join(directory, "global", "pg_control"));
    if (control.readBigUInt64LE(0).toString() !== systemId) return false;
    const pid = await readFile(join(directory, "postmaster.pid"), "utf8");
    await readdir(join(directory, "pg_wal"));
    return Math.abs(Number(pid.split("\n")[2]) - startedAtSeconds) <= 2;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (["ENOENT", "EACCES", "ENOTDIR", "EPERM"].includes(code ?? "")) return false;
    throw error;
  }
}

/** Every file of the cluster that a base backup holds, in the order of their paths. */
export async function walkDataDirectory(directory: string): Promise<Walked> {
  const walked: Walked = { files: [], folders: [], skipped: [] };
  await walk(directory, "", walked);
  const byPath = (a: { path: string }, b: { path: string }): number => (a.path < b.path ? -1 : 1);
  walked.files = withoutUnlogged(walked.files).sort(byPath);
  walked.folders.sort(byPath);
  return walked;
}

async function walk(directory: string, folder: string, walked: Walked): Promise<void> {
  let entries: Dirent[];
  try {
    entries = await readdir(join(directory, folder), { withFileTypes: true });
  } catch (error) {
    if (isGone(error)) return; // a dropped database
    throw error;
  }
  for (const entry of entries) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (isLeftOut(path)) continue;
    try {
      await visit(directory, path, entry, walked);
    } catch (error) {
      if (!isGone(error)) throw error; // it went while we looked: the WAL knows
    }
  }
}

async function visit(directory: string, path: string, entry: Dirent, walked: Walked): Promise<void> {
  const isLink = entry.isSymbolicLink();
  // the only links of a cluster: tablespaces, and folders such as pg_wal moved to another disk
  const facts = await stat(join(directory, path));
  const mode = facts.mode & 0o777;
  if (facts.isDirectory()) {
    const isSpace = /^pg_tblspc\/[^/]+$/.test(path);
    if (isLink && !isSpace && path.includes("/")) {
      walked.skipped.push(path);
      return;
    }
    walked.folders.push({ path, mode });
    if (path === "pg_wal") walked.folders.push({ path: "pg_wal/archive_status", mode });
    else if (!isEmptied(path)) await walk(directory, path, walked);
  } else if (facts.isFile() && !isLink) {
    walked.files.push({ path, mode, size: facts.size });
  } else {
    walked.skipped.push(path);
  }
}

/** Reads until the buffer is full or the file ends. */
export async function readInto(handle: FileHandle, into: Buffer, at: number): Promise<number> {
  let done = 0;
  while (done < into.length) {
    const { bytesRead } = await handle.read(into, done, into.length - done, at + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** The file, or null when it is gone. */
export async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, "r");
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}
