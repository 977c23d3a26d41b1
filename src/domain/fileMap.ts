/** Where a run of a file's bytes lies: in a pack of this backup (source 0), or of the nth older backup it names. */
export type Extent = readonly [source: number, pack: number, offset: number, bytes: number];

/** A file or folder of a cluster. Paths are relative to the data directory; tablespaces are at pg_tblspc/OID. */
export type FileRecord =
  | { kind: "dir"; path: string; mode: number }
  | {
      kind: "file";
      path: string;
      mode: number;
      size: number;
      /** The file is compared in blocks of so many bytes, from offset 0; the last one may be shorter. */
      block: number;
      /** In the order of the file; together they cover it. */
      at: Extent[];
    };

export type MappedFile = Extract<FileRecord, { kind: "file" }>;

const KIB = 1024;
const MIB = 1024 * KIB;

/** Small blocks store less of a change, large ones keep the map small: a file grows into larger ones. */
export function blockBytesOf(fileBytes: number): number {
  if (fileBytes < 128 * KIB) return 128 * KIB;
  if (fileBytes < 16 * MIB) return 8 * KIB;
  if (fileBytes < 64 * MIB) return 16 * KIB;
  if (fileBytes < 256 * MIB) return 32 * KIB;
  return 64 * KIB;
}

export const blocksIn = (fileBytes: number, blockBytes: number): number => Math.ceil(fileBytes / blockBytes);

/** Adds a run to a file's extents; one that continues the last becomes part of it. */
export function addExtent(extents: Extent[], [source, pack, offset, bytes]: Extent): void {
  const last = extents.at(-1);
  const isNext = last !== undefined && last[0] === source && last[1] === pack && last[2] + last[3] === offset;
  if (isNext) extents[extents.length - 1] = [source, pack, last[2], last[3] + bytes];
  else extents.push([source, pack, offset, bytes]);
}

/** The extents of `start` up to, not including, `end` of the file. */
export function extentsBetween(extents: readonly Extent[], start: number, end: number): Extent[] {
  const found: Extent[] = [];
  let at = 0;
  for (const [source, pack, offset, bytes] of extents) {
    const from = Math.max(start, at);
    const to = Math.min(end, at + bytes);
    if (from < to) found.push([source, pack, offset + from - at, to - from]);
    at += bytes;
    if (at >= end) break;
  }
  return found;
}

/** Parts of a file's extents, asked for from the front to the back. */
export class ExtentReader {
  readonly #extents: readonly Extent[];
  #nth = 0;
  /** Where in the file the nth extent begins. */
  #at = 0;

  constructor(extents: readonly Extent[]) {
    this.#extents = extents;
  }

  between(start: number, end: number): Extent[] {
    const found: Extent[] = [];
    for (let nth = this.#nth, at = this.#at; nth < this.#extents.length; nth++) {
      const [source, pack, offset, bytes] = this.#extents[nth] as Extent;
      if (at >= end) break;
      if (at + bytes <= start) {
        this.#nth = nth + 1;
        this.#at = at + bytes;
      } else {
        const from = Math.max(start, at);
        found.push([source, pack, offset + from - at, Math.min(end, at + bytes) - from]);
      }
      at += bytes;
    }
    return found;
  }
}
