import { resolve } from "node:path";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import { isHistoryName, isSegmentName, parseWalKey } from "../../domain/wal.js";
import { knownSystem } from "../ownSystem.js";
import type { Site } from "../site.js";
import { storagesForReading } from "../useStorages.js";
import { fetchWalFile } from "./fetchFile.js";
import { openNearestReader } from "./nearestReader.js";
import { walHomeOf } from "./remembered.js";
import { readSegmentHeader, systemIdBeside, USUAL_SEGMENT_BYTES } from "./segmentHeader.js";
import { Spool, writeWhole } from "./spool.js";
import { openWalReader, type WalEntry, type WalReader } from "./walReader.js";

/** One file of the archive for a server in recovery. False when the archive surely has none of that name. */
export async function fetchWal(site: Site, name: string, path: string): Promise<boolean> {
  if (!isSegmentName(name) && !isHistoryName(name)) return isOtherFile(name);
  const beside = await systemIdBeside(resolve(path));
  const systemId = beside ?? (await knownSystem(site)) ?? (await onlySystem(site));
  const near = await openNearestReader(site, systemId)(name);
  const content = near === null ? await fromAll(site, systemId, name) : padded(name, [near]);
  if (content === null) return false;
  await writeWhole(path, content);
  if (isSegmentName(name) && beside !== null)
    await headStart(site, async () => {
      await new Spool(walHomeOf(site)).notePosition(name);
      site.aside(["wal", "fetch", name, resolve(path), "--ahead", "--config", site.config.file]);
    });
  return true;
}

/** The file is where the server wants it: what goes wrong with the next ones is told when they are asked for. */
async function headStart(site: Site, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    site.report.warn(`the next segments are not fetched ahead: ${reasonOf(error)}`);
  }
}

/** Brings what a recovery will ask for next, in a process of its own. */
export async function fetchWalAhead(site: Site, path: string): Promise<void> {
  const systemId = await systemIdBeside(resolve(path));
  if (systemId === null) return;
  const { fetchAhead } = await import("./fetchAhead.js");
  await fetchAhead(site, systemId);
}

/** Backup histories and the like are not archived. */
function isOtherFile(name: string): boolean {
  if (/^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$/.test(name)) return false;
  throw new JBackupError("usage", `"${name}" is no file of the WAL`, {
    hint: "restore_command = 'jbackup wal fetch %f %p'",
  });
}

/**
 * PostgreSQL takes "there is none" for the end of the archive and comes up: it is said only when every storage says so. One
 * without the site's marker may be a wrong bucket or a disk that is not mounted, and says nothing.
 */
async function requireSure(site: Site, reader: WalReader, name: string): Promise<void> {
  const unsure = new Map([...reader.unread].map(([storage, error]) => [storage, reasonOf(error)]));
  for (const { name: storage, storage: opened } of await site.storages()) {
    if (opened === null || unsure.has(storage)) continue;
    const marker = await site.storage.readSite(opened);
    if (marker === undefined)
      unsure.set(storage, `${opened.location} does not look like a storage of this site`);
  }
  const [[storage, reason] = []] = unsure;
  if (storage === undefined) return;
  throw new JBackupError(
    "storage_unavailable",
    `whether there is ${name} is not known: storage ${storage}: ${reason}`,
    { hint: "jbackup storages check shows what is wrong with it" },
  );
}

const segmentBytesOf = (content: Buffer[]): number =>
  (content[0] && readSegmentHeader(content[0])?.segmentBytes) || USUAL_SEGMENT_BYTES;

/** Asks every storage, and joins pieces where nobody has the whole. */
async function fromAll(site: Site, systemId: string, name: string): Promise<Buffer[] | null> {
  const reader = await openWalReader(site, systemId);
  const found = await fetchWalFile(reader, name, 0, async (beginning) => {
    if (!isSegmentName(beginning)) return storedBelow(site, `wal/${systemId}/${beginning}/`, reader);
    const segment = `${beginning.slice(0, 8)}/${beginning.slice(0, 16)}/${beginning}.`;
    const pieces = await storedBelow(site, `wal/${systemId}/${segment}`, reader);
    // pieces say where the WAL ends, and another storage may know better
    await requireSure(site, reader, name);
    return pieces;
  });
  if (found === null) await requireSure(site, reader, name);
  return found && padded(name, found);
}

function padded(name: string, found: Buffer[]): Buffer[] {
  if (isHistoryName(name)) return found;
  const bytes = found.reduce((sum, part) => sum + part.length, 0);
  return [...found, Buffer.alloc(Math.max(0, segmentBytesOf(found) - bytes))];
}

async function storedBelow(site: Site, prefix: string, reader: WalReader): Promise<WalEntry[]> {
  const found = new Map<string, WalEntry>();
  const { usable } = await storagesForReading(site);
  for (const storage of usable) {
    try {
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
