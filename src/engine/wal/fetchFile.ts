import { isSegmentName, type WalFile } from "../../domain/wal.js";
import { piecesToJoin } from "../../domain/walCoverage.js";
import { readHistory } from "./believed.js";
import { isBadCopy } from "./sealedWal.js";
import type { WalEntry, WalReader } from "./walReader.js";

/**
 * A segment or history file as PostgreSQL wants it, or null when there surely is none. A segment that was never finished is
 * put together from its pieces, with zeros behind them. `beside` answers what is stored of a segment or a timeline.
 */
export async function fetchWalFile(
  reader: WalReader,
  name: string,
  segmentBytes: number,
  beside: (name: string) => Promise<readonly WalEntry[]>,
): Promise<Buffer[] | null> {
  if (!isSegmentName(name)) {
    const history = await readHistory(reader, name, () => beside(name.slice(0, 8)));
    return history && [history];
  }
  const whole = await reader.get(name);
  if (whole !== null) return padded([whole], segmentBytes);
  const found = (await beside(name)).flatMap(({ file }) => (isPieceOf(file, name) ? [file] : []));
  const parts = await joinedPieces(reader, found);
  if (parts.length === 0) {
    const again = await reader.get(name); // pieces vanish when their segment is whole
    return again === null ? null : padded([again], segmentBytes);
  }
  return padded(parts, segmentBytes);
}

/** One that does not open is left out, and the others are chosen anew: its name may claim anything. */
async function joinedPieces(reader: WalReader, found: readonly Piece[]): Promise<Buffer[]> {
  const parts: Buffer[] = [];
  for (const { name, from, skip, to } of piecesToJoin(found)) {
    try {
      const content = await reader.get(name);
      if (content === null) break; // the whole segment has just replaced it, or it is lost: what came before still counts
      parts.push(Buffer.concat(padded([content], to - from + skip)).subarray(skip));
    } catch (error) {
      if (!isBadCopy(error)) throw error;
      return joinedPieces(
        reader,
        found.filter((piece) => piece.name !== name),
      );
    }
  }
  return parts;
}

type Piece = Extract<WalFile, { kind: "piece" }>;

const isPieceOf = (file: WalFile, segment: string): file is Piece =>
  file.kind === "piece" && file.segment === segment;

function padded(parts: Buffer[], bytes: number): Buffer[] {
  const have = parts.reduce((sum, part) => sum + part.length, 0);
  return have < bytes ? [...parts, Buffer.alloc(bytes - have)] : parts;
}
