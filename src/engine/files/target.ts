import { mkdir, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { isTemporaryName, syncDirectory, writeFileAtomic } from "../../sys/atomicFile.js";
import { removeTree } from "../../sys/heldFolder.js";
import { freeBytesAt } from "../../sys/hiddenFile.js";
import { objectIn, readOwnFile } from "../../sys/ownFiles.js";
import { isAlive, isProcessMark, type ProcessMark } from "../../sys/processes.js";

/** Stands in a directory from the first moment to the last: what holds it is no cluster yet. */
const MARK = "jbackup-restore.json";

export const CONTROL_FILE = "global/pg_control";

export interface Owner {
  uid: number;
  gid: number;
}

export interface Mark {
  backupId: string;
  restoreId: string;
  /** Who restores. Null: a power cut tore the mark. */
  process: ProcessMark | null;
  /** Where its server has its socket, if it needs one: a killed run may have left it running. */
  privateDirectory: string | null;
  /** Whose the files are to be in the end, when that is not who restores. */
  owner: Owner | null;
}

const TORN: Mark = { backupId: "", restoreId: "", process: null, privateDirectory: null, owner: null };

export interface TargetState {
  exists: boolean;
  isEmpty: boolean;
  /** Left there by a restore that did not end. */
  mark: Mark | null;
  /** The cluster that lives there, by its pg_control; null when there is none. */
  systemId: string | null;
  /** Who owns it, so that what is written belongs to the same. */
  owner: Owner | null;
}

const isMissing = (error: unknown): boolean =>
  ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");

const textOrNull = async (path: string): Promise<string | null> => {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
};

export async function lookAt(directory: string): Promise<TargetState> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return { exists: false, isEmpty: true, mark: null, systemId: null, owner: null };
    const why = code === "ENOTDIR" ? "is a file, not a directory" : `cannot be read (${code})`;
    throw new JBackupError("target_refused", `${directory} ${why}`, {
      hint: "name another directory with --into-dir",
    });
  }
  const { uid, gid } = await stat(directory);
  const systemId = await systemIdIn(directory);
  const mark = await markIn(directory, systemId);
  return {
    exists: true,
    isEmpty: names.every((name) => name === MARK || name === "lost+found" || isTemporaryName(name)),
    mark,
    systemId,
    // root's own now, if that restore was killed
    owner: mark?.owner ?? { uid, gid },
  };
}

/** A mark makes us stop a server and write over what is there, so only our own is believed. */
async function markIn(directory: string, systemId: string | null): Promise<Mark | null> {
  const file = await readOwnFile(join(directory, MARK));
  if (file.whose === "nobody's") return null;
  if (file.whose === "somebody else's")
    throw new JBackupError(
      "target_refused",
      `${join(directory, MARK)} was not left by a restore of this user`,
      {
        hint: "finish that restore as the user who began it, or name another directory with --into-dir",
      },
    );
  const mark = objectIn(file.text);
  if (isProcessMark(mark?.process)) return mark as unknown as Mark;
  // with pg_control in its place nothing else was touched yet: what is there is a cluster like any other
  return systemId === null ? TORN : null;
}

/** The first eight bytes of pg_control, in the byte order of the machine that runs the cluster. */
async function systemIdIn(directory: string): Promise<string | null> {
  try {
    const file = await open(join(directory, CONTROL_FILE));
    try {
      const bytes = Buffer.alloc(8);
      const { bytesRead } = await file.read(bytes, 0, 8, 0);
      return bytesRead < 8 ? null : bytes.readBigUInt64LE().toString();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** A server that runs on the directory has its number in postmaster.pid. */
export async function refuseRunning(directory: string): Promise<void> {
  const text = await textOrNull(join(directory, "postmaster.pid"));
  const pid = Number(text?.split("\n")[0] ?? 0);
  if (!Number.isInteger(pid) || pid <= 0) return;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return; // left behind by a crash
  }
  throw new JBackupError("target_refused", `a PostgreSQL server (process ${pid}) runs on ${directory}`, {
    hint: `stop it first: pg_ctl -D ${directory} stop, or name another directory with --into-dir`,
  });
}

export async function requireRoom(
  directory: string,
  needed: number,
  way = "name a directory on another disk with --into-dir",
): Promise<void> {
  let place = resolve(directory);
  for (;;) {
    try {
      await stat(place);
      break;
    } catch (error) {
      if (!isMissing(error)) throw error;
      place = dirname(place);
    }
  }
  const free = await freeBytesAt(place);
  if (free >= needed) return;
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(bytes < 1e9 ? 2 : 1)} GB`;
  throw new JBackupError(
    "no_space",
    `the restored cluster needs ${gigabytes(needed)} in ${directory}, where ${gigabytes(free)} are free`,
    {
      hint: `make room there, or ${way}`,
      details: { neededBytes: needed, freeBytes: free },
    },
  );
}

export async function markTarget(directory: string, mark: Mark): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const name of (await readdir(directory)).filter(isTemporaryName))
    await removeTree(join(directory, name));
  await writeFileAtomic(join(directory, MARK), `${JSON.stringify(mark)}\n`, { overwrite: true });
}

export async function unmarkTarget(directory: string): Promise<void> {
  await rm(join(directory, MARK), { force: true });
  await syncDirectory(directory);
}

/** Two restores into one directory would make a mixture of it. */
export function refuseBusy(directory: string, { mark }: TargetState): void {
  if (mark === null || mark.process === null || !isAlive(mark.process)) return;
  throw new JBackupError(
    "target_refused",
    `another restore (process ${mark.process.pid}) is filling ${directory}`,
    {
      hint: "wait for it to end, or end it",
    },
  );
}

export const isMark = (path: string): boolean => path === MARK;
