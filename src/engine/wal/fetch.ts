import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import {
  isHistoryName,
  isSegmentName,
  parseSegmentName,
  parseWalKey,
  segmentName,
} from "../../domain/wal.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { knownSystem } from "../ownSystem.js";
import type { Site } from "../site.js";
import { storagesForReading } from "../useStorages.js";
import { fetchWalFile } from "./fetchFile.js";
import { readSegmentHeader, systemIdBeside } from "./segmentHeader.js";
import { openWalReader, type WalEntry, type WalReader } from "./walStore.js";

/** Segments fetched with the one that is asked for: a recovery asks for them next. */
const AHEAD = 7;
const STALE_MS = 600_000;
/** What PostgreSQL makes its segments of unless told otherwise; the content itself says it better. */
const USUAL_SEGMENT_BYTES = 16 * 2 ** 20;

const spool = (site: Site): string => join(site.config.home, "wal-fetched", site.config.site);

/** One file of the archive for a server in recovery. False when the archive surely has none of that name. */
export async function fetchWal(site: Site, name: string, path: string): Promise<boolean> {
  if (!isSegmentName(name) && !isHistoryName(name)) return isOtherFile(name);
  if (await fromSpool(site, name, path)) return true;
  const systemId =
    (await systemIdBeside(resolve(path))) ?? (await knownSystem(site)) ?? (await onlySystem(site));
  const reader = await openWalReader(site, systemId);
  const content = await get(reader, site, systemId, name);
  if (content === null) return requireSure(reader, name);
  await writeFileAtomic(path, content, { overwrite: true });
  if (isSegmentName(name)) await fetchAhead(site, reader, name, segmentBytesOf(content));
  return true;
}

/** Backup histories and the like are not archived. */
function isOtherFile(name: string): boolean {
  if (/^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$/.test(name)) return false;
  throw new JBackupError("usage", `"${name}" is no file of the WAL`, {
    hint: "restore_command = 'jbackup wal fetch %f %p'",
  });
}

/** PostgreSQL takes "there is none" for the end of the archive and comes up: it is said only when every storage says so. */
function requireSure(reader: WalReader, name: string): boolean {
  if (reader.unread.size === 0) return false;
  const [[storage, error] = ["a storage", new Error("unknown")]] = reader.unread;
  throw new JBackupError(
    "storage_unavailable",
    `whether there is ${name} is not known: storage ${storage}: ${error.message}`,
    {
      hint: "jbackup storages check shows what is wrong with it",
    },
  );
}

const segmentBytesOf = (content: Buffer[]): number =>
  (content[0] && readSegmentHeader(content[0])?.segmentBytes) || USUAL_SEGMENT_BYTES;

async function get(reader: WalReader, site: Site, systemId: string, name: string): Promise<Buffer[] | null> {
  const found = await fetchWalFile(reader, name, 0, (segment) => piecesOf(site, systemId, segment, reader));
  if (found === null || isHistoryName(name)) return found;
  const bytes = found.reduce((sum, part) => sum + part.length, 0);
  return [...found, Buffer.alloc(Math.max(0, segmentBytesOf(found) - bytes))];
}

async function piecesOf(
  site: Site,
  systemId: string,
  segment: string,
  reader: WalReader,
): Promise<WalEntry[]> {
  const found = new Map<string, WalEntry>();
  const { usable } = await storagesForReading(site);
  for (const storage of usable) {
    try {
      const prefix = `wal/${systemId}/${segment.slice(0, 8)}/${segment.slice(0, 16)}/${segment}.`;
      for await (const { key, bytes, modifiedAt } of storage.list(prefix)) {
        const file = parseWalKey(key)?.file;
        if (file) found.set(file.name, { file, storedBytes: bytes, modifiedAt, storages: [storage.name] });
      }
    } catch (error) {
      reader.unread.set(storage.name, error as Error);
    }
  }
  return [...found.values()];
}

async function fetchAhead(site: Site, reader: WalReader, name: string, segmentBytes: number): Promise<void> {
  const { timeline, number } = parseSegmentName(name, segmentBytes);
  await sweepSpool(site);
  await Promise.all(
    Array.from({ length: AHEAD }, async (_, nth) => {
      const next = segmentName({ timeline, number: number + BigInt(nth + 1) }, segmentBytes);
      // only a head start: what goes wrong here is told when it is asked for
      const whole = await reader.get(next).catch(() => null);
      if (whole === null) return;
      const rest = Buffer.alloc(Math.max(0, segmentBytes - whole.length));
      await writeFileAtomic(join(spool(site), next), [whole, rest], { overwrite: true });
    }),
  );
}

async function fromSpool(site: Site, name: string, path: string): Promise<boolean> {
  const kept = join(spool(site), name);
  let content: Buffer;
  try {
    const { mtimeMs } = await stat(kept);
    if (site.clock.now().getTime() - mtimeMs > STALE_MS) return false;
    content = await readFile(kept);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
  const systemId = await systemIdBeside(resolve(path));
  const header = readSegmentHeader(content);
  if (systemId !== null && header?.systemId !== systemId) return false;
  await writeFileAtomic(path, content, { overwrite: true });
  await rm(kept, { force: true });
  return true;
}

async function sweepSpool(site: Site): Promise<void> {
  await mkdir(spool(site), { recursive: true, mode: 0o700 });
  for (const name of await readdir(spool(site))) {
    const path = join(spool(site), basename(name));
    const facts = await stat(path).catch(() => null); // another fetch took it
    if (facts !== null && site.clock.now().getTime() - facts.mtimeMs > STALE_MS)
      await rm(path, { force: true });
  }
}

/** Without a cluster beside the path: there may be just one in the storages. */
async function onlySystem(site: Site): Promise<string> {
  const { usable } = await storagesForReading(site);
  const systems = new Set<string>();
  for (const storage of usable)
    for await (const { key } of storage.list("wal/")) systems.add(key.split("/")[1] ?? "");
  const [only, ...others] = systems;
  if (only !== undefined && others.length === 0) return only;
  throw new JBackupError(
    "not_found",
    only === undefined
      ? "no storage holds any WAL"
      : `the storages hold the WAL of several clusters: ${[...systems].join(", ")}`,
    {
      hint:
        only === undefined
          ? "archive some with jbackup backup wal"
          : "run it in the data directory of the cluster that it is for, as restore_command does",
    },
  );
}
