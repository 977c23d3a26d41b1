import type { BigIntStats } from "node:fs";
import { constants, type FileHandle, open } from "node:fs/promises";
import { type ConfigRecord, entryNameOf } from "../../domain/configBackup.js";
import { JBackupError } from "../../domain/errors.js";
import type { Archive } from "../../format/format.js";
import { readInto } from "../../sys/readInto.js";
import type { Site } from "../site.js";
import { type Accounts, accountsHere } from "./accounts.js";
import { readAcls } from "./acls.js";
import { type FoundPath, missedAt, type ScanNotes, scanPaths } from "./scan.js";

const WHOLE_BYTES = 2 ** 20;
const CHUNK_BYTES = 2 ** 20;
const ATTEMPTS = 3;

export interface ReadWish {
  paths: readonly string[];
  except: readonly string[];
}

/** Every file into the archive; what is known of each path is answered. What cannot be read is told and left out. */
export async function readFilesInto(
  site: Site,
  archive: Archive,
  wish: ReadWish,
  notes: ScanNotes,
): Promise<ConfigRecord[]> {
  const accounts = await accountsHere();
  const records: ConfigRecord[] = [];
  let bytes = 0;
  for await (const found of scanPaths({ ...wish, signal: site.signal }, notes)) {
    const record = await recordOf(site, archive, found, accounts, records.length + 1, notes);
    if (record === null) continue;
    records.push(record);
    if (record.kind === "file") bytes += record.bytes;
    site.report.progress({ task: "reading configuration files", done: bytes, total: null, unit: "bytes" });
  }
  await addAcls(site, records, notes);
  return records;
}

async function recordOf(
  site: Site,
  archive: Archive,
  found: FoundPath,
  accounts: Accounts,
  number: number,
  notes: ScanNotes,
): Promise<ConfigRecord | null> {
  const { path, stat } = found;
  const base = { path, ...attributesOf(stat, accounts) };
  if (found.kind === "link") return { kind: "link", ...base, target: found.target };
  if (found.kind === "dir") return { kind: "dir", ...base, ...(found.isAbove ? { isAbove: true } : {}) };
  try {
    const name = entryNameOf(path, number, site.format.isEntryName);
    const entry = await addFile(archive, name, path, stat, notes);
    return { kind: "file", ...base, bytes: entry.bytes, entry: name };
  } catch (error) {
    site.signal.throwIfAborted();
    if (error instanceof JBackupError || (error as NodeJS.ErrnoException).syscall === undefined) throw error;
    notes.missed.push(missedAt(path, error));
    return null;
  }
}

const attributesOf = (stat: BigIntStats, accounts: Accounts) => ({
  mode: Number(stat.mode & 0o7777n),
  uid: Number(stat.uid),
  gid: Number(stat.gid),
  user: accounts.userName(Number(stat.uid)),
  group: accounts.groupName(Number(stat.gid)),
  mtimeMs: Number(stat.mtimeNs / 1000n) / 1000,
});

/** A path may have become a link or a pipe since it was looked at: neither is followed, nor waited for. */
const SAFELY = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

async function addFile(
  archive: Archive,
  name: string,
  path: string,
  seen: BigIntStats,
  notes: ScanNotes,
): Promise<{ bytes: number }> {
  const file = await open(path, SAFELY);
  try {
    const now = await file.stat({ bigint: true });
    if (!now.isFile() || now.ino !== seen.ino)
      throw Object.assign(new Error("it was replaced while it was read"), { syscall: "open" });
    const content =
      now.size <= WHOLE_BYTES ? [await readWhole(file, path, notes)] : pieces(file, now, path, notes);
    return await archive.addEntry(name, asStream(content));
  } finally {
    await file.close();
  }
}

async function* asStream(content: Iterable<Buffer> | AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield* content;
}

const sameMoment = (a: BigIntStats, b: BigIntStats): boolean => a.mtimeNs === b.mtimeNs && a.size === b.size;

/** Small ones in one piece, and once more when somebody wrote to them meanwhile. */
async function readWhole(file: FileHandle, path: string, notes: ScanNotes): Promise<Buffer> {
  for (let attempt = 1; ; attempt++) {
    const before = await file.stat({ bigint: true });
    const buffer = Buffer.alloc(Number(before.size));
    const content = buffer.subarray(0, await readInto(file, buffer, 0));
    const after = await file.stat({ bigint: true });
    if (sameMoment(before, after) && content.length === buffer.length) return content;
    if (attempt < ATTEMPTS) continue;
    notes.notes.push(`${path} was being written while it was read`);
    return content;
  }
}

/** No more than there was at the beginning: a log that grows would never end. */
async function* pieces(
  file: FileHandle,
  before: BigIntStats,
  path: string,
  notes: ScanNotes,
): AsyncGenerator<Buffer> {
  for (let at = 0, left = Number(before.size); left > 0; ) {
    const buffer = Buffer.alloc(Math.min(left, CHUNK_BYTES));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) break;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
    left -= bytesRead;
  }
  if (!sameMoment(before, await file.stat({ bigint: true })))
    notes.notes.push(`${path} was being written while it was read`);
}

async function addAcls(site: Site, records: ConfigRecord[], { notes }: ScanNotes): Promise<void> {
  const carriers = records.filter((record) => record.kind !== "link");
  const acls = await readAcls(
    site,
    carriers.map(({ path }) => path),
  );
  if (acls === null) notes.push("access lists beyond the mode are not kept: getfacl is not installed");
  for (const record of carriers) {
    const acl = acls?.get(record.path);
    if (acl !== undefined) record.acl = acl;
  }
}
