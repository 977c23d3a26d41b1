import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isSegmentName } from "../../domain/wal.js";
import type { Clock } from "../../sys/clock.js";
import type { Site } from "../site.js";

/** Known before the configuration is read: most calls of PostgreSQL are answered by what an earlier one did, and need no more. */
export interface WalHome {
  home: string;
  configFile: string;
  clock: Clock;
}

export const walHomeOf = ({ config, clock }: Site): WalHome => ({
  home: config.home,
  configFile: config.file,
  clock,
});

/** Two configurations may share a home, and archive the same cluster into different places. */
export const folderFor = ({ home, configFile }: WalHome, what: string): string =>
  join(home, what, createHash("sha256").update(configFile).digest("hex").slice(0, 16));

const STALE_MS = 24 * 3_600_000;

/** Changes when the file is written to, or when it is another one of that name. */
export async function printOf(path: string): Promise<string> {
  const { dev, ino, size, mtimeMs } = await stat(path);
  return JSON.stringify([dev, ino, size, mtimeMs]);
}

export async function rememberPushed(at: WalHome, name: string, print: string): Promise<void> {
  const folder = folderFor(at, "wal-pushed");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(join(folder, name), print, { mode: 0o600 });
}

/** Whether this very file was pushed along with an earlier one. It is asked once. */
export async function wasPushed(at: WalHome, name: string, path: string): Promise<boolean> {
  if (!isSegmentName(name)) return false;
  const mark = join(folderFor(at, "wal-pushed"), name);
  try {
    const pushed = await readFile(mark, "utf8");
    await rm(mark, { force: true });
    return pushed === (await printOf(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** A server that ended before it asked left them. */
export async function forgetOld(at: WalHome): Promise<void> {
  const folder = folderFor(at, "wal-pushed");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (const name of await readdir(folder)) {
    const facts = await stat(join(folder, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return null; // another call was asked for it
      throw error;
    });
    if (facts !== null && at.clock.now().getTime() - facts.mtimeMs > STALE_MS)
      await rm(join(folder, name), { force: true });
  }
}
