import { constants } from "node:fs";
import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { isSegmentName } from "../../domain/wal.js";
import type { Clock } from "../../sys/clock.js";
import { ownMark } from "../../sys/processes.js";
import { folderFor, type WalHome } from "./remembered.js";
import { readSegmentHeader, type SegmentHeader, systemIdBeside } from "./segmentHeader.js";

/** What nobody took in this time is not wanted any more. */
const STALE_MS = 600_000;
const HEADER_BYTES = 40;
const POSITION = "position";

/**
 * Segments that lie ready for the next calls of restore_command. They are whole, but not forced to disk: PostgreSQL does that
 * when it keeps one. So what a crash of the machine left is never used: the folder is named after the boot.
 */
export class Spool {
  readonly #clock: Clock;
  readonly #all: string;
  readonly #folder: string;

  constructor(at: WalHome) {
    this.#clock = at.clock;
    this.#all = folderFor(at, "wal-fetched");
    this.#folder = join(this.#all, ownMark().bootId ?? "unknown");
  }

  async prepare(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.#all))
      if (name !== basename(this.#folder)) await rm(join(this.#all, name), { recursive: true, force: true });
    for (const name of await readdir(this.#folder))
      if (await this.#isStale(name)) await rm(join(this.#folder, name), { force: true });
  }

  /** Moves a segment to where the server wants it. False when it does not lie here, or is of another cluster. */
  async take(name: string, path: string, systemId: string | null): Promise<boolean> {
    const kept = join(this.#folder, name);
    const header = await headerOf(kept);
    if (header === null || systemId === null || header.systemId !== systemId) return false;
    if (await this.#isStale(name)) return false;
    return moved(kept, path);
  }

  async put(name: string, parts: readonly Uint8Array[]): Promise<void> {
    await writeWhole(join(this.#folder, name), parts);
  }

  async has(name: string): Promise<boolean> {
    return (await headerOf(join(this.#folder, name))) !== null;
  }

  drop(name: string): Promise<void> {
    return rm(join(this.#folder, name), { force: true });
  }

  async names(): Promise<string[]> {
    return (await readdir(this.#folder)).filter(isSegmentName);
  }

  /** The segment that was asked for last: what is fetched ahead begins behind it. */
  async notePosition(name: string): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    await writeFile(join(this.#folder, POSITION), name, { mode: 0o600 });
  }

  async position(): Promise<string | null> {
    const name = await readFile(join(this.#folder, POSITION), "utf8").catch(nothingThere);
    return name !== null && isSegmentName(name) ? name : null;
  }

  async #isStale(name: string): Promise<boolean> {
    const facts = await stat(join(this.#folder, name)).catch(nothingThere);
    return facts === null || this.#clock.now().getTime() - facts.mtimeMs > STALE_MS;
  }
}

/** A segment that was fetched ahead goes where the server wants it. False when it was not. */
export async function takeFetched(at: WalHome, name: string, path: string): Promise<boolean> {
  if (!isSegmentName(name)) return false;
  const spool = new Spool(at);
  if (!(await spool.take(name, path, await systemIdBeside(resolve(path))))) return false;
  await spool.notePosition(name).catch(() => undefined); // the server has its file; it is fetched ahead no further, at worst
  return true;
}

/** Another call may take or drop a file at any moment. */
function nothingThere(error: NodeJS.ErrnoException): null {
  if (error.code === "ENOENT") return null;
  throw error;
}

/** Of a segment that lies there in its full length. */
async function headerOf(path: string): Promise<SegmentHeader | null> {
  const file = await open(path).catch(nothingThere);
  if (file === null) return null;
  try {
    const bytes = Buffer.alloc(HEADER_BYTES);
    await file.read(bytes, 0, HEADER_BYTES, 0);
    const header = readSegmentHeader(bytes);
    return header !== null && (await file.stat()).size === header.segmentBytes ? header : null;
  } finally {
    await file.close();
  }
}

async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      if ((await stat(from).catch(nothingThere)) === null) return false;
    } else if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
  }
  const beside = unfinished(to);
  try {
    await copyFile(from, beside, constants.COPYFILE_FICLONE);
    await rename(beside, to);
  } finally {
    await rm(beside, { force: true });
  }
  await rm(from, { force: true });
  return true;
}

const unfinished = (path: string): string => join(dirname(path), `~${basename(path)}.${process.pid}`);

/** All of it or nothing at the path, seen by other processes. Not forced to disk. */
export async function writeWhole(path: string, parts: readonly Uint8Array[]): Promise<void> {
  const beside = unfinished(path);
  try {
    await writeFile(beside, parts, { mode: 0o600 });
    await rename(beside, path);
  } finally {
    await rm(beside, { force: true });
  }
}
