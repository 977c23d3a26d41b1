import { chmod, mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { isTemporaryName } from "../../sys/atomicFile.js";
import { type HeldFolder, holdFolder, makeWayTo, ownFolder } from "../../sys/heldFolder.js";
import { isWalElsewhere } from "./links.js";
import { type Places, placesFor } from "./places.js";
import { isMark, type Owner } from "./target.js";

/**
 * The places of a restore. Where root restores for somebody else they are held open and taken away from him, so that he
 * cannot put a link in root's way between a look and the write behind it; they are given back at the end.
 */
export interface TakenPlaces {
  /** The same places by paths that lead into what is held. */
  places: Places;
  /** A folder below them, which gets its mode, and its owner at the end. Nothing in it may be touched before. */
  take(path: string, mode: number): Promise<void>;
  /** Refuses when their names lead somewhere else by now: whoever reads them there would find something else. */
  confirm(): Promise<void>;
  giveBack(): Promise<void>;
  /** What was thrown, with the names that people know. */
  named(error: unknown): unknown;
}

const OURS_ALONE = 0o700;

/** `owner` is null where files stay with whoever restores them: then nobody is kept away. */
export async function takePlaces(places: Places, owner: Owner | null): Promise<TakenPlaces> {
  for (const place of [places.directory, ...places.tablespaces.values()]) {
    if (owner !== null) await makeWayTo(place);
    await mkdir(place, { recursive: true, mode: OURS_ALONE });
  }
  if (owner !== null) return takeFrom(owner, places);
  for (const place of places.tablespaces.values()) await chmod(place, OURS_ALONE);
  const nothing = async (): Promise<void> => undefined;
  return { places, take: chmod, confirm: nothing, giveBack: nothing, named: (error) => error };
}

async function takeFrom(owner: Owner, places: Places): Promise<TakenPlaces> {
  const held = new Held(owner);
  try {
    const { at } = await held.take(places.directory, isOfCluster);
    const spaces = new Map<string, string>();
    for (const [oid, place] of places.tablespaces)
      spaces.set(oid, (await held.take(place, isOfTablespace)).at);
    const wal = join(at, "pg_wal");
    const isElsewhere = await isWalElsewhere(wal, placesFor(at, spaces));
    return {
      places: placesFor(at, spaces, isElsewhere ? (await held.hold(wal)).at : null),
      take: (path, mode) => held.takeBelow(path, mode),
      confirm: () => held.confirm(),
      giveBack: () => held.giveBack(),
      named: (error) => held.named(error),
    };
  } catch (error) {
    await held.giveBack();
    throw held.named(error);
  }
}

const isOurs = (name: string): boolean => isMark(name) || isTemporaryName(name) || name === "lost+found";

/** A folder of root's that is none of these was put there after it was looked at. */
const isOfCluster = (names: string[]): boolean =>
  names.every(isOurs) || names.some((name) => isMark(name) || name === "PG_VERSION");

const isOfTablespace = (names: string[]): boolean =>
  names.every((name) => isOurs(name) || /^PG_\d+_\d+$/.test(name));

/** `mode` is the one that it is given back with; null: it was not taken. */
interface KeptOpen extends HeldFolder {
  path: string;
  mode: number | null;
}

class Held {
  readonly #owner: Owner;
  readonly #folders: KeptOpen[] = [];
  readonly #below: { path: string; mode: number }[] = [];
  readonly #names: { at: string; path: string }[] = [];

  constructor(owner: Owner) {
    this.#owner = owner;
  }

  async take(path: string, isRight: (names: string[]) => boolean): Promise<HeldFolder> {
    const folder = await this.#open(path);
    const { uid, mode } = await folder.handle.stat();
    const isOwners = uid === this.#owner.uid;
    if (!isOwners) {
      const names = await readdir(folder.at);
      if (uid === 0 ? !isRight(names) : names.length > 0) throw swapped(path);
    }
    await folder.handle.chown(0, 0);
    await folder.handle.chmod(OURS_ALONE);
    folder.mode = isOwners ? mode & 0o7777 : OURS_ALONE;
    return folder;
  }

  /** Stays with its owner, who may have more in it. */
  async hold(path: string): Promise<HeldFolder> {
    const folder = await this.#open(path);
    if ((await folder.handle.stat()).uid !== this.#owner.uid) throw swapped(path);
    return folder;
  }

  async #open(path: string): Promise<KeptOpen> {
    const folder: KeptOpen = { ...(await holdFolder(path)), path, mode: null };
    this.#folders.push(folder);
    if (folder.at !== path) this.#names.push({ at: folder.at, path });
    return folder;
  }

  async takeBelow(path: string, mode: number): Promise<void> {
    await ownFolder(path, { uid: 0, gid: 0, mode: OURS_ALONE });
    this.#below.push({ path, mode });
  }

  async confirm(): Promise<void> {
    for (const { handle, path } of this.#folders) {
      const [held, there] = await Promise.all([handle.stat(), stat(path)]);
      if (held.dev !== there.dev || held.ino !== there.ino) throw swapped(path);
    }
  }

  /** From the innermost to the outermost: what is not given back yet cannot be reached before. */
  async giveBack(): Promise<void> {
    const below = this.#below.splice(0).toReversed();
    const folders = this.#folders.splice(0).toReversed();
    try {
      for (const { path, mode } of below) await ownFolder(path, { ...this.#owner, mode });
      for (const { handle, mode } of folders) {
        if (mode === null) continue;
        await handle.chmod(mode);
        await handle.chown(this.#owner.uid, this.#owner.gid);
      }
    } finally {
      for (const { handle } of folders) await handle.close();
    }
  }

  named(error: unknown): unknown {
    if (!(error instanceof Error)) return error;
    // the last one was reached through the first
    for (const { at, path } of this.#names.toReversed()) {
      const held = new RegExp(`${at}(?!\\d)`, "g");
      error.message = error.message.replace(held, () => path);
      const system = error as NodeJS.ErrnoException;
      if (system.path !== undefined) system.path = system.path.replace(held, () => path);
    }
    return error;
  }
}

const swapped = (path: string): JBackupError =>
  new JBackupError("target_refused", `${path} is not the directory any more that it was a moment ago`, {
    hint: "find out who put another one in its place, then restore again",
  });
