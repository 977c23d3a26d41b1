import { type FileHandle, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { FileRecord, MappedFile } from "../../domain/fileMap.js";
import { writeWhole } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";

export const chainFolder = (site: Site): string => join(site.config.home, "chain", site.config.site);

export const mapPath = (site: Site, backupId: string): string => join(chainFolder(site), `${backupId}.map`);
export const chainPath = (site: Site, backupId: string): string =>
  join(chainFolder(site), `${backupId}.json`);

/** The map of the backup in the making, on disk: it may be larger than memory should be. */
export interface MapWriter {
  add(record: FileRecord, tags: Buffer): Promise<void>;
  /** To be called when all is in. */
  content(): AsyncIterable<Buffer>;
  /** Keeps it for the next backup, under its name. */
  keep(): Promise<void>;
  discard(): Promise<void>;
}

const PART_BYTES = 2 ** 20;

export async function writeMap(site: Site, backupId: string): Promise<MapWriter> {
  await mkdir(chainFolder(site), { recursive: true, mode: 0o700 });
  const unfinished = `${mapPath(site, backupId)}.tmp`;
  const file = await open(unfinished, "wx+", 0o600);
  let written: Promise<void> = writeWhole(file, site.format.mapHeader());
  return {
    add: (record, tags) => {
      const bytes = site.format.encodeFileRecord(record, tags);
      written = written.then(() => writeWhole(file, bytes));
      return written;
    },
    async *content() {
      await written;
      for (let at = 0; ; ) {
        const part = Buffer.allocUnsafe(PART_BYTES);
        const { bytesRead } = await file.read(part, 0, PART_BYTES, at);
        if (bytesRead === 0) return;
        at += bytesRead;
        yield part.subarray(0, bytesRead);
      }
    },
    keep: async () => {
      await file.close();
      await rename(unfinished, mapPath(site, backupId));
    },
    discard: async () => {
      await file.close().catch(() => undefined); // closed already when it was kept
      await rm(unfinished, { force: true });
    },
  };
}

export interface KnownFile {
  record: MappedFile;
  tags: Buffer;
}

/** The map of an earlier backup: any of its files by path, without all of it in memory. */
export interface MapReader {
  find(path: string): Promise<KnownFile | null>;
  close(): Promise<void>;
}

interface Place {
  head: number;
  headBytes: number;
  tagBytes: number;
}

export async function openMap(site: Site, path: string): Promise<MapReader> {
  const file = await open(path, "r");
  try {
    const places = await scan(site, file);
    return {
      find: async (wanted) => {
        const place = places.get(wanted);
        if (place === undefined) return null;
        const bytes = Buffer.allocUnsafe(place.headBytes + place.tagBytes);
        await file.read(bytes, 0, bytes.length, place.head);
        const record = JSON.parse(bytes.toString("utf8", 0, place.headBytes)) as FileRecord;
        return record.kind === "file" ? { record, tags: bytes.subarray(place.headBytes) } : null;
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Once through the file with every check; fingerprints are passed over. */
async function scan(site: Site, file: FileHandle): Promise<Map<string, Place>> {
  const places = new Map<string, Place>();
  let at = site.format.mapHeader().length;
  for await (const { record, tags, headBytes } of site.format.readMap(
    file.createReadStream({ start: 0, autoClose: false, highWaterMark: PART_BYTES }),
  )) {
    places.set(record.path, { head: at + 8, headBytes, tagBytes: tags.length });
    at += 8 + headBytes + tags.length;
  }
  return places;
}

/** Only the newest backup's map is of use. */
export async function dropOtherMaps(site: Site, keptId: string): Promise<void> {
  for (const name of await readdir(chainFolder(site)))
    if (!name.startsWith(keptId)) await rm(join(chainFolder(site), name), { force: true });
}
