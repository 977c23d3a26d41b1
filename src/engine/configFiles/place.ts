import { constants, lchown, link, lstat, mkdir, open, readlink, rename, rm, symlink } from "node:fs/promises";
import { dirname } from "node:path";
import type { ConfigRecord } from "../../domain/configBackup.js";
import { JBackupError } from "../../domain/errors.js";
import { temporaryName, writeWhole } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import type { Accounts } from "./accounts.js";
import { writeAcl } from "./acls.js";
import { ownerHere } from "./difference.js";
import { type Folder, folderOfPath, Held } from "./folder.js";

export interface PlaceWish {
  /** Where a path goes: the folder that may be believed, and the rest, on which no link is followed. */
  placeOf(path: string): { base: string; below: string };
  accounts: Accounts;
  /** Where what is replaced is kept; null: nothing is there. */
  keepIn: string | null;
  /** Each file survives a power cut from the moment it is in its place; else the caller sees to that for all of them. */
  isDurable: boolean;
  /** Told of what could not be brought back of a path. */
  onLost(what: "owner" | "acl", record: ConfigRecord, why: string): void;
}

const isRoot = (): boolean => process.getuid?.() === 0;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** A file whole or not at all: beside its place first, with owner, mode and time, then in it by one rename. */
export const placeFile = (
  site: Site,
  wish: PlaceWish,
  record: ConfigRecord & { kind: "file" },
  content: AsyncIterable<Buffer>,
): Promise<void> =>
  within(wish, record, async (folder, name) => {
    const temporary = temporaryName();
    const file = await open(folder.at(temporary), NEW_FILE, 0o600);
    try {
      for await (const chunk of content) await writeWhole(file, chunk);
      const held = new Held(file, folder.at(temporary));
      await attribute(site, wish, record, held);
      if (wish.isDurable) await file.sync();
      await moveIn(wish, record, folder, { temporary, name, held });
    } finally {
      await file.close();
      await rm(folder.at(temporary), { force: true });
    }
    if (wish.isDurable) await folder.sync();
  });

export const placeLink = (
  site: Site,
  wish: PlaceWish,
  record: ConfigRecord & { kind: "link" },
): Promise<void> =>
  within(wish, record, async (folder, name) => {
    const temporary = temporaryName();
    await symlink(record.target, folder.at(temporary));
    try {
      await holding(folder, temporary, async (held) => {
        if (!(await held.stat()).isSymbolicLink()) throw replaced(record);
        await attribute(site, wish, record, held);
        await moveIn(wish, record, folder, { temporary, name, held });
      });
    } finally {
      await rm(folder.at(temporary), { force: true });
    }
    if (wish.isDurable) await folder.sync();
  });

/** Who owns the folder can put something else under the temporary name at any moment. */
async function moveIn(
  wish: PlaceWish,
  record: ConfigRecord,
  folder: Folder,
  { temporary, name, held }: { temporary: string; name: string; held: Held },
): Promise<void> {
  await keepOld(wish, record, folder, name);
  await rename(folder.at(temporary), folder.at(name));
  if (!(await held.isAt(folder, name))) throw replaced(record);
}

const replaced = ({ path }: Pick<ConfigRecord, "path">): JBackupError =>
  new JBackupError("target_refused", `${path} was replaced by somebody else while it was restored`, {
    hint: "find out which program writes there, then restore again",
  });

async function holding(folder: Folder, name: string, work: (held: Held) => Promise<void>): Promise<void> {
  const held = await folder.hold(name);
  try {
    await work(held);
  } finally {
    await held.close();
  }
}

/** For its owner's eyes until all that is in it is there; `settle` opens it. */
export const placeFolder = (wish: PlaceWish, record: ConfigRecord): Promise<void> =>
  within(wish, record, async (folder, name) => {
    await folder.make(name);
    if (wish.isDurable) await folder.sync();
  });

/** Mode, owner, access list and time of what is there. */
export const settle = (site: Site, wish: PlaceWish, record: ConfigRecord): Promise<void> =>
  within(wish, record, (folder, name) =>
    holding(folder, name, async (held) => {
      const here = await held.stat();
      const isSame =
        record.kind === "link"
          ? here.isSymbolicLink()
          : record.kind === "dir"
            ? here.isDirectory()
            : here.isFile();
      if (isSame) await attribute(site, wish, record, held);
      else wish.onLost("owner", record, "it was replaced meanwhile");
    }),
  );

async function within(
  { placeOf }: PlaceWish,
  { path }: ConfigRecord,
  work: (folder: Folder, name: string) => Promise<void>,
): Promise<void> {
  const { base, below } = placeOf(path);
  const { folder, name } = await folderOfPath(base, below);
  try {
    await work(folder, name);
  } finally {
    await folder.close();
  }
}

async function attribute(site: Site, wish: PlaceWish, record: ConfigRecord, held: Held): Promise<void> {
  const owner = ownerHere(record, wish.accounts);
  if (isRoot()) await held.own(owner.uid, owner.gid);
  else await ownAsFarAsAllowed(held, wish, record, owner);
  // known to the microsecond, which a fraction of seconds may just miss
  const seconds = (record.mtimeMs + 0.0005) / 1000;
  if (record.kind !== "link") {
    await held.allow(record.mode); // after the owner, for a change of that takes bits away
    if (record.acl !== undefined) {
      const why = await writeAcl(site, held.forOthers, record.acl);
      if (why !== null) wish.onLost("acl", record, why);
    }
  }
  await held.date(seconds);
}

async function ownAsFarAsAllowed(
  held: Held,
  wish: PlaceWish,
  record: ConfigRecord,
  owner: { uid: number; gid: number },
): Promise<void> {
  const here = await held.stat();
  if (here.uid === owner.uid && here.gid === owner.gid) return;
  try {
    await held.own(owner.uid, owner.gid); // a group that this user is in
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") throw error;
    wish.onLost("owner", record, "only root may give files away");
  }
}

/** What stood there goes to the kept folder under its own path, with all that it was. */
async function keepOld(
  { keepIn }: PlaceWish,
  { path }: ConfigRecord,
  folder: Folder,
  name: string,
): Promise<void> {
  if (keepIn === null) return;
  const old = folder.at(name);
  const stat = await lstat(old).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (stat === null) return;
  const kept = `${keepIn}${path}`;
  await mkdir(dirname(kept), { recursive: true, mode: 0o700 });
  try {
    await link(old, kept);
  } catch (error) {
    // another file system, or a file of somebody else's
    if (!["EXDEV", "EPERM", "EMLINK", "ENOTSUP"].includes((error as NodeJS.ErrnoException).code ?? ""))
      throw error;
    if (stat.isFile()) return copyOld(old, kept, path);
    if (stat.isSymbolicLink()) await symlink(await readlink(old), kept);
    if (isRoot()) await lchown(kept, stat.uid, stat.gid);
  }
}

const AS_IT_STANDS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** The very file that is opened, with what it has of owner and mode: a link in its place now is not followed. */
async function copyOld(old: string, kept: string, path: string): Promise<void> {
  const from = await open(old, AS_IT_STANDS).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ELOOP" ? replaced({ path }) : error;
  });
  try {
    const { uid, gid, mode } = await from.stat();
    const to = await open(kept, NEW_FILE, 0o600);
    try {
      for await (const chunk of from.createReadStream({ autoClose: false })) await writeWhole(to, chunk);
      if (isRoot()) await to.chown(uid, gid);
      await to.chmod(mode & 0o7777);
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}
