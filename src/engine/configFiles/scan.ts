import type { BigIntStats } from "node:fs";
import { access, lstat, readdir, readlink, realpath } from "node:fs/promises";
import { foldersAbove, isBelow, type Missed, rootsOf } from "../../domain/configBackup.js";
import { reasonOf } from "../../domain/errors.js";

export type FoundPath = { path: string; stat: BigIntStats } & (
  | { kind: "file" }
  | { kind: "dir"; isAbove: boolean }
  | { kind: "link"; target: string }
);

export interface ScanWish {
  paths: readonly string[];
  /** Folders that are never looked into: the backups themselves. */
  except: readonly string[];
  signal: AbortSignal;
}

/** What is worth knowing about a scan beside what was found. */
export interface ScanNotes {
  missed: Missed[];
  notes: string[];
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? "";

const whyOf = (error: unknown): string => {
  switch (codeOf(error)) {
    case "ENOENT":
      return "it is not there";
    case "EACCES":
    case "EPERM":
      return "this user may not read it";
    case "ENOTDIR":
      return "a part of its path is no folder";
    default:
      return reasonOf(error);
  }
};

export const missedAt = (path: string, error: unknown): Missed => ({ path, why: whyOf(error) });

/** Files, folders and links as they stand, parents before what is in them. Links are told, never followed. */
export async function* scanPaths(wish: ScanWish, notes: ScanNotes): AsyncGenerator<FoundPath> {
  const roots = rootsOf(wish.paths);
  // one that lies below another comes with it, if it is there
  for (const path of wish.paths) if (!roots.includes(path)) await lookAt(path, notes, false);
  const above = new Set<string>();
  for (const root of roots) {
    for (const path of foldersAbove(root)) {
      if (above.has(path)) continue;
      above.add(path);
      const stat = await lookAt(path, notes, true);
      if (stat?.isDirectory()) yield { path, stat, kind: "dir", isAbove: true };
    }
    const stat = await lookAt(root, notes, false);
    if (stat === null) continue;
    if (stat.isSymbolicLink()) await noteRootLink(root, roots, notes);
    yield* walk(root, stat, wish, notes);
  }
}

async function lookAt(path: string, notes: ScanNotes, isAbove: boolean): Promise<BigIntStats | null> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    if (!isAbove) notes.missed.push(missedAt(path, error)); // what is missing above shows in what is below it
    return null;
  }
}

async function noteRootLink(root: string, roots: readonly string[], notes: ScanNotes): Promise<void> {
  const target = await realpath(root).catch(() => null);
  if (target !== null && roots.some((other) => other !== root && isBelow(target, other))) return;
  notes.notes.push(
    `${root} is a link${target === null ? " to nothing" : ` to ${target}`}, and only the link is kept: name what it leads to in configFiles`,
  );
}

async function* walk(
  path: string,
  stat: BigIntStats,
  wish: ScanWish,
  notes: ScanNotes,
): AsyncGenerator<FoundPath> {
  wish.signal.throwIfAborted();
  if (stat.isFile()) yield { path, stat, kind: "file" };
  else if (stat.isSymbolicLink()) {
    const target = await readlink(path).catch(
      (error: unknown) => void notes.missed.push(missedAt(path, error)),
    );
    if (target !== undefined) yield { path, stat, kind: "link", target };
  } else if (!stat.isDirectory()) notes.notes.push(`${path} is ${kindOf(stat)}, and is left out`);
  else if (wish.except.includes(path)) notes.notes.push(`${path} holds backups, and is left out`);
  else {
    yield { path, stat, kind: "dir", isAbove: false };
    yield* walkInto(path, wish, notes);
  }
}

const kindOf = (stat: BigIntStats): string => {
  if (stat.isSocket()) return "a socket";
  if (stat.isFIFO()) return "a pipe";
  return "a device";
};

async function* walkInto(folder: string, wish: ScanWish, notes: ScanNotes): AsyncGenerator<FoundPath> {
  let names: string[];
  try {
    names = await namesIn(folder, notes);
  } catch (error) {
    notes.missed.push(missedAt(folder, error));
    return;
  }
  const isCluster = names.includes("PG_VERSION") && (await isThere(`${folder}/global/pg_control`));
  if (isCluster)
    notes.notes.push(
      `${folder} is a data directory of PostgreSQL: only its settings are kept, full backups hold the rest`,
    );
  for (const name of names.sort()) {
    const path = folder === "/" ? `/${name}` : `${folder}/${name}`;
    if (isCluster && !/\.(conf|key|crt|pem)$/.test(name)) continue;
    const stat = await lookAt(path, notes, false);
    if (stat !== null) yield* walk(path, stat, wish, notes);
  }
}

/** Names are bytes; one that is no text could not be written down, nor brought back. */
async function namesIn(folder: string, { missed }: ScanNotes): Promise<string[]> {
  const names = await readdir(folder, { encoding: "buffer" });
  return names.flatMap((bytes) => {
    const name = bytes.toString("utf8");
    if (Buffer.from(name).equals(bytes)) return [name];
    missed.push({ path: `${folder}/${name}`, why: "its name is no valid UTF-8" });
    return [];
  });
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false, // not there, or not ours to look at: then it is no cluster that we could read
  );
