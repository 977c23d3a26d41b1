import {
  addExtent,
  blockBytesOf,
  blocksIn,
  type Extent,
  ExtentReader,
  type MappedFile,
} from "../../domain/fileMap.js";
import type { Archive } from "../../format/format.js";
import type { BaseBackup, ChangedPages, SourceFile } from "../../postgres/postgres.js";
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
  onRead(bytes: number): void;
}

export interface Tally {
  files: number;
  /** What the cluster comes to. */
  bytes: number;
  storedBytes: number;
  storedBlocks: number;
  referencedBlocks: number;
  damagedPages: { path: string; block: number }[];
}

const READERS = 3;
const PART_BYTES = 2 ** 20;

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
  for await (const { offset, bytes, damagedPages } of parts) {
    storing.site.signal.throwIfAborted();
    assembling.keepUpTo(offset);
    await assembling.add(bytes);
    for (const page of damagedPages) storing.tally.damagedPages.push({ path: file.path, block: page });
    storing.onRead(bytes.length);
  }
  if (spans !== null) assembling.keepUpTo(file.size);
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
  #tags: Buffer;
  #size = 0;

  constructor(storing: Storing, file: SourceFile, block: number, known: KnownFile | null) {
    this.#storing = storing;
    this.#file = file;
    this.#block = block;
    this.#known = known;
    this.#knownExtents = new ExtentReader(known?.record.at ?? []);
    this.#tags = Buffer.alloc(blocksIn(file.size, block) * storing.site.format.FINGERPRINT_BYTES);
  }

  /** What was not read is as the parent has it. */
  keepUpTo(end: number): void {
    if (end <= this.#size || this.#known === null) return;
    this.#refer(this.#size, end);
    const tagBytes = this.#storing.site.format.FINGERPRINT_BYTES;
    const first = (this.#size / this.#block) * tagBytes;
    this.#known.tags.copy(this.#tags, first, first, blocksIn(end, this.#block) * tagBytes);
    this.#size = end;
  }

  async add(bytes: Buffer): Promise<void> {
    const { site, fingerprintKey, tally } = this.#storing;
    const tagBytes = site.format.FINGERPRINT_BYTES;
    const tags = site.format.fingerprintsOf(fingerprintKey, bytes, this.#block);
    const start = this.#size;
    tags.copy(this.#tags, (start / this.#block) * tagBytes);
    for (let from = 0; from < bytes.length; ) {
      const isKnown = this.#isKnown(start, from, bytes.length, tags);
      let to = from;
      while (to < bytes.length && this.#isKnown(start, to, bytes.length, tags) === isKnown)
        to = Math.min(bytes.length, to + this.#block);
      if (isKnown) this.#refer(start + from, start + to);
      else {
        await this.#store(bytes.subarray(from, to));
        tally.storedBlocks += blocksIn(to - from, this.#block);
      }
      from = to;
    }
    this.#size = start + bytes.length;
  }

  async end(): Promise<void> {
    const { map, tally, site } = this.#storing;
    const { path, mode } = this.#file;
    const tagBytes = blocksIn(this.#size, this.#block) * site.format.FINGERPRINT_BYTES;
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
    const tagBytes = this.#storing.site.format.FINGERPRINT_BYTES;
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
    const { sources, tally } = this.#storing;
    for (const extent of this.#knownExtents.between(start, end)) addExtent(this.#at, sources.adopt(extent));
    tally.referencedBlocks += blocksIn(end - start, this.#block);
  }

  async #store(bytes: Buffer): Promise<void> {
    const { archive, tally } = this.#storing;
    for (const { object, offset, bytes: length } of await archive.addBytes(bytes))
      addExtent(this.#at, [0, packNumber(object), offset, length]);
    tally.storedBytes += bytes.length;
  }
}

const packNumber = (name: string): number => Number(/(\d+)\.jbk$/.exec(name)?.[1]);
