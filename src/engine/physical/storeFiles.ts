import {
  addExtent,
  blockBytesOf,
  blocksIn,
  type Extent,
  ExtentReader,
  type MappedFile,
} from "../../domain/fileMap.js";
import type { Archive } from "../../format/format.js";
import type { BaseBackup, ChangedPages, FilePart, SourceFile } from "../../postgres/postgres.js";
import type { Site } from "../site.js";
import type { KnownFile, MapWriter } from "./mapFile.js";
import type { Parent } from "./parent.js";
import type { Sources } from "./sources.js";

export interface Storing {
  site: Site;
  archive: Archive;
  map: MapWriter;
  parent: Parent | null;
  sources: Sources;
  fingerprintKey: Buffer;
  /** Null: every file is read whole. */
  changed: ChangedPages | null;
  tally: Tally;
  onRead(): void;
}

export interface Tally {
  files: number;
  /** What the cluster comes to. */
  bytes: number;
  /** Of files, to find out what changed: all of them, or much less where the server keeps summaries of its WAL. */
  readBytes: number;
  storedBytes: number;
  storedBlocks: number;
  referencedBlocks: number;
  damagedPages: { path: string; block: number }[];
}

const READERS = 3;
const PART_BYTES = 2 ** 20;
/** PostgreSQL counts damage in pages, whatever the size of the blocks that are compared. */
const PAGE_BYTES = 8192;

/** Several files at a time, so that compression never waits for the disk. */
export async function storeAll(storing: Storing, base: BaseBackup): Promise<void> {
  const entries = base.files.all()[Symbol.asyncIterator]();
  let hasFailed = false;
  const reader = async (): Promise<void> => {
    while (!hasFailed) {
      storing.site.signal.throwIfAborted();
      const next = await entries.next();
      if (next.done) return;
      const entry = next.value;
      if ("isFolder" in entry)
        await storing.map.add({ kind: "dir", path: entry.path, mode: entry.mode }, Buffer.alloc(0));
      else await storeFile(storing, entry);
    }
  };
  const guarded = async (): Promise<void> => {
    try {
      await reader();
    } catch (error) {
      hasFailed = true;
      throw error;
    }
  };
  const readers = Array.from({ length: base.files.isParallel ? READERS : 1 }, guarded);
  const ended = await Promise.allSettled(readers);
  for (const one of ended) if (one.status === "rejected") throw one.reason;
}

/** One file: what the parent has is referred to, the rest is stored. */
export async function storeFile(storing: Storing, file: SourceFile): Promise<void> {
  const known = await comparable(storing, file);
  const block = known?.record.block ?? blockBytesOf(file.size);
  const spans =
    known === null || storing.changed === null
      ? null
      : storing.changed.spansOf(file.path, file.size, known.record.size, block);
  const parts = await file.read(Math.max(PART_BYTES, block), spans);
  if (parts === null) return; // it went: the WAL knows
  const assembling = new FileAssembly(storing, file, block, known);
  let readBytes = 0;
  for await (const part of parts) {
    storing.site.signal.throwIfAborted();
    assembling.keepUpTo(part.offset);
    await assembling.add(part);
    readBytes += part.bytes.length;
    storing.tally.readBytes += part.bytes.length;
    storing.onRead();
  }
  const wantedBytes = spans?.reduce((sum, { start, end }) => sum + end - start, 0);
  // when less came than was wanted the file has shrunk: it ends where reading did
  if (readBytes === wantedBytes) assembling.keepUpTo(file.size);
  await assembling.end();
}

/** The parent's file, if its blocks can be compared with this one's. */
async function comparable({ parent }: Storing, file: SourceFile): Promise<KnownFile | null> {
  if (parent === null || file.path.startsWith("pg_wal/")) return null;
  const known = await parent.map.find(file.path);
  return known !== null && known.record.block === blockBytesOf(file.size) ? known : null;
}

/** Puts a file's extents and fingerprints together from front to back. */
class FileAssembly {
  readonly #storing: Storing;
  readonly #file: SourceFile;
  readonly #block: number;
  readonly #known: KnownFile | null;
  readonly #knownExtents: ExtentReader;
  readonly #at: Extent[] = [];
  readonly #tagBytes: number;
  #tags: Buffer;
  #size = 0;

  constructor(storing: Storing, file: SourceFile, block: number, known: KnownFile | null) {
    this.#storing = storing;
    this.#file = file;
    this.#block = block;
    this.#known = known;
    this.#knownExtents = new ExtentReader(known?.record.at ?? []);
    this.#tagBytes = storing.site.format.FINGERPRINT_BYTES;
    this.#tags = Buffer.alloc(blocksIn(file.size, block) * this.#tagBytes);
  }

  /** What was not read is as the parent has it. */
  keepUpTo(end: number): void {
    if (end <= this.#size || this.#known === null) return;
    this.#refer(this.#size, end);
    const first = (this.#size / this.#block) * this.#tagBytes;
    this.#known.tags.copy(this.#tags, first, first, blocksIn(end, this.#block) * this.#tagBytes);
    this.#size = end;
  }

  async add(part: FilePart): Promise<void> {
    const { bytes } = part;
    const tags = this.#fingerprints(bytes);
    const start = this.#size;
    for (let from = 0; from < bytes.length; ) {
      const isKnown = this.#isKnown(start, from, bytes.length, tags);
      let to = from;
      while (to < bytes.length && this.#isKnown(start, to, bytes.length, tags) === isKnown)
        to = Math.min(bytes.length, to + this.#block);
      if (isKnown) this.#refer(start + from, start + to);
      else await this.#store(part, from, to, tags);
      from = to;
    }
    tags.copy(this.#tags, (start / this.#block) * this.#tagBytes);
    this.#size = start + bytes.length;
  }

  async end(): Promise<void> {
    const { map, tally } = this.#storing;
    const { path, mode } = this.#file;
    const tagBytes = blocksIn(this.#size, this.#block) * this.#tagBytes;
    const record: MappedFile = {
      kind: "file",
      path,
      mode,
      size: this.#size,
      block: this.#block,
      at: this.#at,
    };
    tally.files++;
    tally.bytes += this.#size;
    await map.add(record, this.#tags.subarray(0, tagBytes));
  }

  #isKnown(start: number, inner: number, length: number, tags: Buffer): boolean {
    if (this.#known === null) return false;
    const tagBytes = this.#tagBytes;
    const at = start + inner;
    const here = Math.min(this.#block, length - inner);
    const there = Math.min(this.#block, this.#known.record.size - at);
    const tag = (inner / this.#block) * tagBytes;
    const knownTag = (at / this.#block) * tagBytes;
    return (
      here === there &&
      tags.compare(this.#known.tags, knownTag, knownTag + tagBytes, tag, tag + tagBytes) === 0
    );
  }

  #refer(start: number, end: number): void {
    const { sources, tally, parent } = this.#storing;
    for (const page of parent?.damagedIn(this.#file.path) ?? [])
      if (page * PAGE_BYTES >= start && page * PAGE_BYTES < end)
        tally.damagedPages.push({ path: this.#file.path, block: page });
    for (const extent of this.#knownExtents.between(start, end)) addExtent(this.#at, sources.adopt(extent));
    tally.referencedBlocks += blocksIn(end - start, this.#block);
  }

  /** Pages are checked when they are stored: those that the parent has were checked when it stored them. */
  async #store(part: FilePart, from: number, to: number, tags: Buffer): Promise<void> {
    const { archive, tally } = this.#storing;
    const bytes = part.bytes.subarray(from, to);
    const { damaged, hasChanged } = await part.check(from, to);
    if (hasChanged) this.#fingerprints(bytes).copy(tags, (from / this.#block) * this.#tagBytes);
    for (const page of damaged) tally.damagedPages.push({ path: this.#file.path, block: page });
    for (const { object, offset, bytes: length } of await archive.addBytes(bytes))
      addExtent(this.#at, [0, packNumber(object), offset, length]);
    tally.storedBytes += bytes.length;
    tally.storedBlocks += blocksIn(to - from, this.#block);
  }

  #fingerprints(bytes: Buffer): Buffer {
    return this.#storing.site.format.fingerprintsOf(this.#storing.fingerprintKey, bytes, this.#block);
  }
}

const packNumber = (name: string): number => Number(/(\d+)\.jbk$/.exec(name)?.[1]);
