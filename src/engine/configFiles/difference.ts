import { createHash } from "node:crypto";
import type { Stats } from "node:fs";
import { constants, lstat, open, readdir, readlink } from "node:fs/promises";
import {
  type ConfigRecord,
  type FileDifference,
  type FileState,
  modeText,
} from "../../domain/configBackup.js";
import { isTemporaryName } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import type { Accounts } from "./accounts.js";
import { readAcls } from "./acls.js";

export interface CompareWish {
  records: readonly ConfigRecord[];
  accounts: Accounts;
  /** The folders above what was backed up: they may be links. */
  above: ReadonlySet<string>;
  /** SHA-256 by entry name. */
  digests: ReadonlyMap<string, string>;
}

/** Who owns it here: by name where the name is known, for numbers mean something else on another host. */
export const ownerHere = ({ uid, gid, user, group }: ConfigRecord, accounts: Accounts) => ({
  uid: (user === null ? null : accounts.userId(user)) ?? uid,
  gid: (group === null ? null : accounts.groupId(group)) ?? gid,
});

/** Every path of the backup against what stands there, and what stands beside it. Nothing is changed. */
export async function compareFiles(site: Site, wish: CompareWish): Promise<FileDifference[]> {
  const { records } = wish;
  const acls = await readAcls(
    site,
    records.filter(({ kind }) => kind !== "link").map(({ path }) => path),
  );
  const differences: FileDifference[] = [];
  for (const [done, record] of records.entries()) {
    site.signal.throwIfAborted();
    const [state, what] = await compareOne(record, wish, acls);
    const isPassing =
      record.kind === "dir" && record.isAbove === true && state !== "missing" && state !== "inTheWay";
    if (!isPassing) differences.push({ path: record.path, kind: record.kind, state, what });
    site.report.progress({ task: "comparing files", done: done + 1, total: records.length, unit: "objects" });
  }
  site.report.progressEnd();
  return [...differences, ...(await extrasOf(records))];
}

type Answer = [state: FileState, what: string | null];

async function compareOne(
  record: ConfigRecord,
  wish: CompareWish,
  acls: Map<string, string> | null,
): Promise<Answer> {
  const stat = await statOf(record.path);
  if (stat === null) return ["missing", null];
  if (stat === "below a file") return ["inTheWay", "a part of its path is no folder here"];
  if (record.kind === "dir") {
    if (stat.isDirectory()) return attributes(record, stat, wish, acls);
    // a folder above that is a link is the host's own way of arranging things
    const isPassable = wish.above.has(record.path) && stat.isSymbolicLink();
    return isPassable ? ["same", null] : ["inTheWay", `is ${kindOf(stat)} here, and a folder in the backup`];
  }
  if (stat.isDirectory()) return ["inTheWay", `is a folder here, and a ${record.kind} in the backup`];
  if (record.kind === "link") {
    if (!stat.isSymbolicLink()) return ["changed", `is ${kindOf(stat)} here, and a link in the backup`];
    const target = await readlink(record.path);
    if (target !== record.target)
      return ["changed", `leads to ${target} here, and to ${record.target} in the backup`];
    return attributes(record, stat, wish, acls);
  }
  if (!stat.isFile()) return ["changed", `is ${kindOf(stat)} here, and a file in the backup`];
  const differs = await contentDiffers(record, stat, wish);
  return differs === null ? attributes(record, stat, wish, acls) : ["changed", differs];
}

const kindOf = (stat: Stats): string =>
  stat.isFile()
    ? "a file"
    : stat.isSymbolicLink()
      ? "a link"
      : stat.isDirectory()
        ? "a folder"
        : "something else";

async function statOf(path: string): Promise<Stats | "below a file" | null> {
  try {
    return await lstat(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return null;
    if (code === "ENOTDIR") return "below a file";
    throw error;
  }
}

async function contentDiffers(
  record: ConfigRecord & { kind: "file" },
  stat: Stats,
  { digests }: CompareWish,
): Promise<string | null> {
  if (stat.size !== record.bytes) return `${stat.size} bytes here, ${record.bytes} in the backup`;
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(record.path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EACCES") return "this user may not read it here";
    throw error;
  }
  try {
    const hash = createHash("sha256");
    for await (const chunk of file.createReadStream({ autoClose: false })) hash.update(chunk as Buffer);
    return hash.digest("hex") === digests.get(record.entry) ? null : "other content of the same length";
  } finally {
    await file.close();
  }
}

function attributes(
  record: ConfigRecord,
  stat: Stats,
  { accounts }: CompareWish,
  acls: Map<string, string> | null,
): Answer {
  const mode = stat.mode & 0o7777;
  const owner = ownerHere(record, accounts);
  const differs = [
    ...(record.kind !== "link" && mode !== record.mode
      ? [`mode ${modeText(mode)} here, ${modeText(record.mode)} in the backup`]
      : []),
    ...(stat.uid === owner.uid && stat.gid === owner.gid
      ? []
      : [
          `owner ${accounts.userName(stat.uid) ?? stat.uid}:${accounts.groupName(stat.gid) ?? stat.gid} here, ${record.user ?? record.uid}:${record.group ?? record.gid} in the backup`,
        ]),
    ...(record.kind !== "link" && acls !== null && acls.get(record.path) !== record.acl
      ? ["another access list"]
      : []),
  ];
  return differs.length === 0 ? ["same", null] : ["attributes", differs.join("; ")];
}

/** What this host has in the folders of the backup and the backup has not. It is told, and left alone. */
async function extrasOf(records: readonly ConfigRecord[]): Promise<FileDifference[]> {
  const known = new Set(records.map(({ path }) => path));
  const extras: FileDifference[] = [];
  for (const record of records) {
    if (record.kind !== "dir" || record.isAbove === true) continue;
    const found = await readdir(record.path, { withFileTypes: true }).catch(
      (error: NodeJS.ErrnoException) => {
        if (["ENOENT", "ENOTDIR", "EACCES"].includes(error.code ?? "")) return [];
        throw error;
      },
    );
    for (const one of found) {
      const path = `${record.path}/${one.name}`;
      if (known.has(path) || isTemporaryName(one.name)) continue;
      const kind = one.isDirectory() ? "dir" : one.isSymbolicLink() ? "link" : "file";
      extras.push({ path, kind, state: "extra", what: "is not in the backup, and stays" });
    }
  }
  return extras;
}
