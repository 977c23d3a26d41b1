import { constants } from "node:fs";
import { chmod, lchown, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

import { writeWhole } from "../../sys/atomicFile.js";
import { removeTree } from "../../sys/heldFolder.js";

export interface WalFeedSettings {
  /** Private, on the file system of the cluster, so that a segment is handed over by a rename. */
  directory: string;
  owner: { uid: number; gid: number } | null;
  /** The content of a segment or history file; null when the archive surely has none. */
  get(name: string): Promise<readonly Uint8Array[] | null>;
  /** The files that will be asked for after this one. */
  after(name: string): string[];
  onServed(name: string): void;
}

export interface WalFeed {
  /** For restore_command. */
  readonly command: string;
  /** Why a file could not be had; the server was told to give up. */
  readonly failure: Error | null;
  stop(): Promise<void>;
}

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** Files that lie ready for the server. */
const AHEAD = 6;
const LOOK_EVERY_MS = 10;

/**
 * Hands WAL to a server in recovery. The server's side is a few lines of shell that wait for a file, so the server needs
 * neither keys nor storages, and no process has to start for each segment. When this process dies, the script ends with a
 * code that stops the recovery: an end of the archive must never be taken for granted.
 */
export async function feedWal(settings: WalFeedSettings): Promise<WalFeed> {
  const { directory, owner } = settings;
  const place = (kind: string, name: string): string => join(directory, kind, name);
  const write = async (path: string, content: readonly Uint8Array[]): Promise<void> => {
    const file = await open(path, NEW_FILE, 0o600);
    try {
      for (const chunk of content) await writeWhole(file, chunk);
      if (owner) await file.chown(owner.uid, owner.gid);
    } finally {
      await file.close();
    }
  };
  // what a killed run left there would be taken for the truth
  await removeTree(directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const folder of ["want", "have", "none", "took"].map((kind) => join(directory, kind))) {
    await mkdir(folder, { mode: 0o700 });
    if (owner) await lchown(folder, owner.uid, owner.gid);
  }
  const script = join(directory, "fetch.sh");
  await write(script, [Buffer.from(scriptFor(directory, process.pid))]);
  // the server goes through it, and makes nothing in it: no link of its user's can stand in the way of what root writes
  if (owner) await chmod(directory, 0o711);

  let failure: Error | null = null;
  let isStopped = false;
  const coming = new Map<string, Promise<void>>();

  async function bring(name: string): Promise<void> {
    const content = await settings.get(name);
    if (isStopped) return;
    const unfinished = join(directory, `~${name}`);
    await rm(unfinished, { force: true }); // of a try that failed
    await write(unfinished, content ?? []);
    await rename(unfinished, place(content === null ? "none" : "have", name));
  }

  const start = (name: string): Promise<void> => {
    const known = coming.get(name);
    if (known) return known;
    const brought = bring(name);
    coming.set(name, brought);
    brought.catch(() => undefined); // told when it is asked for
    return brought;
  };

  const startNext = (name: string): void => {
    for (const next of settings.after(name).slice(0, AHEAD)) start(next);
  };

  async function serve(name: string): Promise<void> {
    await rm(place("want", name), { force: true });
    const asked = start(name);
    startNext(name);
    await asked;
    // the server may ask again later: then it is fetched again
    coming.delete(name);
    settings.onServed(name);
  }

  /** What lay ready was taken without a word before. */
  async function noteTaken(name: string): Promise<void> {
    await rm(place("took", name), { force: true });
    coming.delete(name);
    settings.onServed(name);
    startNext(name);
  }

  const serving = new Set<string>();
  const look = async (): Promise<void> => {
    // in this order: whoever asks for a file that was taken a moment ago has said before that it was taken
    const wanted = await readdir(join(directory, "want"));
    for (const name of (await readdir(join(directory, "took"))).sort()) await noteTaken(name);
    for (const name of wanted) {
      if (serving.has(name)) continue;
      serving.add(name);
      serve(name)
        .catch(async (error: unknown) => {
          const isFirst = failure === null;
          failure ??= error as Error;
          if (isFirst) await write(join(directory, "failed"), []);
        })
        .finally(() => serving.delete(name));
    }
  };
  const loop = (async () => {
    while (!isStopped) {
      await look();
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  })();
  loop.catch((error: unknown) => {
    failure ??= error as Error;
  });

  return {
    // the server reads a % as the beginning of a place holder
    command: `/bin/sh ${shellWord(script).replaceAll("%", "%%")} %f "%p"`,
    get failure() {
      return failure;
    },
    async stop() {
      isStopped = true;
      await loop.catch(() => undefined); // kept in `failure`
      await Promise.allSettled(coming.values());
      await removeTree(directory);
    },
  };
}

const shellWord = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

const scriptFor = (directory: string, pid: number): string =>
  [
    `spool=${shellWord(directory)}`,
    'if mv "$spool/have/$1" "$2" 2>/dev/null; then : > "$spool/took/$1" || exit 200; exit 0; fi',
    'if rm "$spool/none/$1" 2>/dev/null; then : > "$spool/took/$1" || exit 200; exit 1; fi',
    ': > "$spool/want/$1" || exit 200',
    "while :; do",
    '  if [ -e "$spool/have/$1" ]; then mv "$spool/have/$1" "$2" && exit 0; exit 200; fi',
    '  if [ -e "$spool/none/$1" ]; then rm -f "$spool/none/$1"; exit 1; fi',
    '  [ -e "$spool/failed" ] && exit 200',
    `  [ -d /proc ] && [ ! -d /proc/${pid} ] && exit 200`,
    "  sleep 0.01",
    "done",
    "",
  ].join("\n");
