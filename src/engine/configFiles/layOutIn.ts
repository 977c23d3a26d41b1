import { chmod, lstat, mkdir, readdir, rm, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type ConfigRecord, FILES, INSTALL_PLAN, isLaidOut } from "../../domain/configBackup.js";
import { JBackupError } from "../../domain/errors.js";
import type { Entry } from "../../domain/manifest.js";
import { runProgram } from "../../sys/aside.js";
import { isTemporaryName, syncDirectory, writeFileAtomic } from "../../sys/atomicFile.js";
import type { Outcome } from "../restore/outcome.js";
import type { PreparedConfig } from "../restoreConfig.js";
import type { Site } from "../site.js";
import { Losses } from "./losses.js";
import { type PlaceWish, placeFile, placeFolder, placeLink, settle } from "./place.js";

/** Stands in the folder as long as not all of it is there. */
const UNFINISHED = ".jbackup-unfinished";

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === "ENOENT";

/** What a run that was killed left: it is begun anew. Whatever else came into the folder is somebody's own. */
export async function isOwnLeftover(directory: string): Promise<boolean> {
  try {
    if (!(await lstat(join(directory, UNFINISHED))).isFile()) return false;
  } catch (error) {
    if (isMissing(error) || (error as NodeJS.ErrnoException).code === "ENOTDIR") return false;
    throw error;
  }
  const other = (await readdir(directory)).sort().find((name) => !isOurs(name));
  if (other === undefined) return true;
  throw new JBackupError(
    "target_refused",
    `${join(directory, other)} is none of the files that an unfinished restore left in ${directory}`,
    {
      hint: "move it elsewhere, or name a new folder with --into-dir",
      details: { path: join(directory, other) },
    },
  );
}

const isOurs = (name: string): boolean => name === UNFINISHED || isTemporaryName(name) || isLaidOut(name);

/** Only a new or empty folder with room in it, which nothing is overwritten in. */
export async function refuseFolder(directory: string, bytes: number): Promise<void> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isMissing(error)) return [];
    throw new JBackupError("target_refused", `${directory} cannot be used: ${(error as Error).message}`, {
      hint: "name a new folder with --into-dir",
      cause: error,
    });
  });
  if (names.length > 0)
    throw new JBackupError("target_refused", `${directory} is not empty`, {
      hint: "name a new folder with --into-dir",
    });
  const free = await freeAt(directory);
  if (free < bytes)
    throw new JBackupError("no_space", `${directory} has room for ${free} bytes, and ${bytes} are needed`, {
      hint: "name a folder on a larger disk with --into-dir",
    });
}

async function freeAt(directory: string): Promise<number> {
  for (let path = directory; ; path = dirname(path)) {
    try {
      const facts = await statfs(path);
      return facts.bavail * facts.bsize;
    } catch (error) {
      if (!isMissing(error) || path === dirname(path)) throw error;
    }
  }
}

/** The files below `files/`, as they were; what else is known of the host and the server beside them. */
export async function layOutIn(site: Site, prepared: PreparedConfig, directory: string): Promise<Outcome> {
  const { opened, records, accounts, plan } = prepared;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await chmod(directory, 0o700); // what is in it was not for everybody to read
  await empty(directory);
  await writeFile(join(directory, UNFINISHED), "jbackup is restoring into this folder\n", { mode: 0o600 });
  try {
    const losses = new Losses();
    const base = join(directory, FILES);
    await mkdir(base, { mode: 0o700 });
    const wish: PlaceWish = {
      placeOf: (path) => ({ base, below: path }),
      accounts,
      keepIn: null,
      isDurable: false,
      onLost: losses.add,
    };
    for (const record of records) if (record.kind === "dir") await placeFolder(wish, record);
    const fileOf = new Map(
      records.flatMap((record) => (record.kind === "file" ? [[record.entry, record] as const] : [])),
    );
    const isOwn = ({ name }: Entry): boolean =>
      !name.startsWith(`${FILES}/`) && !name.startsWith("odd-names/");
    const wanted = opened.contents.entries.filter((entry) => fileOf.has(entry.name) || isOwn(entry));
    let done = 0;
    for await (const { entry, content } of opened.readAll(wanted)) {
      site.signal.throwIfAborted();
      const record = fileOf.get(entry.name);
      if (record) await placeFile(site, wish, record, content);
      else await writeFileAtomic(join(directory, ...entry.name.split("/")), content);
      done += entry.bytes;
      site.report.progress({ task: "writing files", done, total: plan.rawBytes, unit: "bytes" });
    }
    for (const record of records) if (record.kind === "link") await placeLink(site, wish, record);
    for (const record of foldersLast(records)) await settle(site, wish, record);
    await flush(site, directory);
    await rm(join(directory, UNFINISHED));
    await syncDirectory(directory);
    return {
      tables: [],
      rowsRestored: 0,
      warnings: losses.warnings(),
      metadata: {
        files: fileOf.size,
        bytes: done,
        installPlan: join(directory, INSTALL_PLAN),
      },
    };
  } catch (error) {
    await empty(directory);
    await rm(join(directory, UNFINISHED), { force: true });
    throw error;
  } finally {
    site.report.progressEnd();
  }
}

/** All at once: file by file it would take a hundred times as long. */
async function flush(site: Site, directory: string): Promise<void> {
  const { path } = site.environment;
  const ended = await runProgram("sync", ["--file-system", directory], {
    path,
    signal: site.signal,
    timeoutMs: 600_000,
  });
  if (ended !== null && ended.code !== 0)
    site.report.warn(`${directory} may not survive a power cut yet: ${ended.stderr.trim()}`);
}

/** All that a restore makes, but for the mark. */
async function empty(directory: string): Promise<void> {
  for (const name of await readdir(directory))
    if (name !== UNFINISHED && isOurs(name))
      await rm(join(directory, name), { recursive: true, force: true });
}

/** The innermost first: what is made in a folder changes its time, and some may not be written into any more. */
export const foldersLast = (records: readonly ConfigRecord[]): ConfigRecord[] =>
  records.filter(({ kind }) => kind === "dir").toReversed();
