import type { Dirent } from "node:fs";
import { type FileHandle, open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { JBackupError } from "../../domain/errors.js";
import { controlFacts, isWholeControl } from "./controlFile.js";
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

export const CONTROL = "global/pg_control";

const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";

/** Whether the directory can be read here, and is that of the very server that was asked. */
export async function isReadableHere(
  directory: string,
  systemId: string,
  startedAtSeconds: number,
): Promise<boolean> {
  try {
    const control = await readFile(join(directory, "global", "pg_control"));
    if (controlFacts(control).systemId !== systemId) return false;
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
  const version = await spaceVersion(directory);
  try {
    await walk({ directory, version, walked }, "");
  } catch (error) {
    throw unreadable(error);
  }
  const byPath = (a: { path: string }, b: { path: string }): number => (a.path < b.path ? -1 : 1);
  walked.files = withoutUnlogged(walked.files).sort(byPath);
  walked.folders.sort(byPath);
  return walked;
}

interface Walk {
  directory: string;
  /** The folder inside a tablespace that is this cluster's: others belong to other versions. */
  version: string;
  walked: Walked;
}

async function walk(own: Walk, folder: string): Promise<void> {
  const { directory, version } = own;
  let entries: Dirent[];
  try {
    entries = await readdir(join(directory, folder), { withFileTypes: true });
  } catch (error) {
    if (isGone(error)) return; // a dropped database
    throw error;
  }
  for (const entry of entries) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (isLeftOut(path) || (/^pg_tblspc\/\d+$/.test(folder) && entry.name !== version)) continue;
    try {
      await visit(own, path, entry);
    } catch (error) {
      if (!isGone(error)) throw error; // it went while we looked: the WAL knows
    }
  }
}

async function visit(own: Walk, path: string, entry: Dirent): Promise<void> {
  const { directory, walked } = own;
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
    else if (!isEmptied(path)) await walk(own, path);
  } else if (facts.isFile() && !(isLink && path.includes("/"))) {
    // a link to a file is one to a configuration file elsewhere: its content is kept
    walked.files.push({ path, mode, size: facts.size });
  } else {
    walked.skipped.push(path);
  }
}

/** `PG_15_202209061`: how the server names its folder in every tablespace. */
async function spaceVersion(directory: string): Promise<string> {
  const [major = "", { catalogVersion }] = await Promise.all([
    readFile(join(directory, "PG_VERSION"), "utf8"),
    readFile(join(directory, CONTROL)).then(controlFacts),
  ]);
  return `PG_${major.trim()}_${catalogVersion}`;
}

function unreadable(error: unknown): unknown {
  const { code, path } = error as NodeJS.ErrnoException;
  if (code !== "EACCES" && code !== "EPERM") return error;
  return new JBackupError("environment", `${path} may not be read`, {
    cause: error,
    hint: "run jbackup as the user that the server runs as, or set database.dataDirectory to stream in jbackup.yaml",
  });
}

const CONTROL_LOOKS = 20;
const CONTROL_PAUSE_MS = 25;

/** The server may be writing it: it is read until its checksum fits. */
export async function readControl(directory: string): Promise<Buffer> {
  for (let look = 0; look < CONTROL_LOOKS; look++) {
    const control = await readFile(join(directory, CONTROL));
    if (isWholeControl(control)) return control;
    await pause(CONTROL_PAUSE_MS);
  }
  throw new JBackupError("failed", `${join(directory, CONTROL)} has a wrong checksum`, {
    hint: "the cluster is damaged: look at it with pg_controldata before anything else",
  });
}

/** The file, or null when it is gone. */
export async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, "r");
  } catch (error) {
    if (isGone(error)) return null;
    throw unreadable(error);
  }
}
