import { relationFile } from "./exclusions.js";
import { PAGE_BYTES } from "./pageChecksum.js";
import type { ByteSpan } from "./sourceFile.js";

/** A row of pg_wal_summary_contents(). */
export interface SummaryRow {
  relation: string;
  tablespace: string;
  database: string;
  fork: number;
  block: number;
  isLimit: boolean;
}

interface ForkChanges {
  /** From this block on everything counts as changed: the fork was cut or made anew. */
  limit: number;
  blocks: Set<number>;
}

const PAGES_PER_SEGMENT = 131_072;
const FORKS = ["main", "fsm", "vm", "init"] as const;
const DEFAULT_SPACE = "1663";
const GLOBAL_SPACE = "1664";

/** Which pages changed since an older backup, by file. The rules are those of PostgreSQL's own incremental backups. */
export class ChangedPages {
  readonly #forks = new Map<string, ForkChanges>();
  /** Databases that were copied as files: nothing of theirs is known. */
  readonly #wholeDatabases = new Set<string>();

  add(row: SummaryRow): void {
    const { tablespace, database, relation } = row;
    if (relation === "0") {
      this.#wholeDatabases.add(`${tablespace}/${database}`);
      return;
    }
    const key = `${tablespace}/${database}/${relation}/${FORKS[row.fork]}`;
    const fork = this.#forks.get(key) ?? { limit: Number.POSITIVE_INFINITY, blocks: new Set() };
    if (row.isLimit) fork.limit = Math.min(fork.limit, row.block);
    else fork.blocks.add(row.block);
    this.#forks.set(key, fork);
  }

  /**
   * The spans of a file to read, in whole blocks; null when all of it must be read. `knownBytes` is the file's size
   * in the older backup: what lies behind is new.
   */
  spansOf(path: string, size: number, knownBytes: number, blockBytes: number): ByteSpan[] | null {
    const file = relationFile(path);
    const place = file === null ? null : placeOf(file.relation);
    // free space maps are not in the WAL in full; init forks are small and rare
    if (file === null || place === null || file.fork === "fsm" || file.fork === "init") return null;
    if (size % PAGE_BYTES !== 0 || knownBytes % PAGE_BYTES !== 0 || blockBytes % PAGE_BYTES !== 0)
      return null;
    if (this.#wholeDatabases.has(`${place.tablespace}/${place.database}`)) return null;
    const first = file.segment * PAGES_PER_SEGMENT;
    const fork = this.#forks.get(`${place.tablespace}/${place.database}/${place.relation}/${file.fork}`);
    if (fork !== undefined && fork.limit <= first) return null;
    const end = Math.min(size, Math.max(0, ((fork?.limit ?? Number.POSITIVE_INFINITY) - first) * PAGE_BYTES));
    const blocks = new Set<number>();
    for (const block of fork?.blocks ?? []) {
      const at = (block - first) * PAGE_BYTES;
      if (at >= 0 && at < size) blocks.add(Math.floor(at / blockBytes));
    }
    const wholeFrom = Math.floor(Math.min(end, knownBytes) / blockBytes);
    for (let block = wholeFrom; block * blockBytes < size; block++) blocks.add(block);
    return spansOfBlocks(blocks, blockBytes, size);
  }
}

function spansOfBlocks(blocks: Set<number>, blockBytes: number, size: number): ByteSpan[] {
  const spans: ByteSpan[] = [];
  for (const block of [...blocks].sort((a, b) => a - b)) {
    const start = block * blockBytes;
    const end = Math.min(size, start + blockBytes);
    const last = spans.at(-1);
    if (last !== undefined && last.end === start) last.end = end;
    else spans.push({ start, end });
  }
  return spans;
}

function placeOf(relation: string): { tablespace: string; database: string; relation: string } | null {
  const parts = relation.split("/");
  const number = parts.at(-1) ?? "";
  if (parts[0] === "global") return { tablespace: GLOBAL_SPACE, database: "0", relation: number };
  if (parts[0] === "base") return { tablespace: DEFAULT_SPACE, database: parts[1] ?? "", relation: number };
  if (parts[0] === "pg_tblspc")
    return { tablespace: parts[1] ?? "", database: parts.at(-2) ?? "", relation: number };
  return null;
}
