import { isSegmentName, type WalFile } from "../../domain/wal.js";
import { piecesToJoin } from "../../domain/walCoverage.js";
import type { WalEntry, WalReader } from "./walReader.js";

/**
 * A segment or history file as PostgreSQL wants it, or null when there surely is none. A segment that was never finished is
 * put together from its pieces, with zeros behind them. `pieces` answers what is stored of a segment.
 */
export async function fetchWalFile(
  reader: WalReader,
  name: string,
  segmentBytes: number,
  pieces: (segment: string) => Promise<readonly WalEntry[]>,
): Promise<Buffer[] | null> {
  const whole = await reader.get(name);
  if (whole !== null) return isSegmentName(name) ? padded([whole], segmentBytes) : [whole];
  if (!isSegmentName(name)) return null;
  const found = (await pieces(name)).flatMap(({ file }) => (isPieceOf(file, name) ? [file] : []));
  const parts: Buffer[] = [];
  for (const { name: piece, from, skip, to } of piecesToJoin(found)) {
    const content = await reader.get(piece);
    if (content === null) break; // the whole segment has just replaced it, or it is lost: what came before still counts
    const bytes = padded([content], to - from + skip);
    parts.push(Buffer.concat(bytes).subarray(skip));
  }
  if (parts.length === 0) {
    const again = await reader.get(name); // pieces vanish when their segment is whole
    return again === null ? null : padded([again], segmentBytes);
  }
  return padded(parts, segmentBytes);
}

const isPieceOf = (file: WalFile, segment: string): file is Extract<WalFile, { kind: "piece" }> =>
  file.kind === "piece" && file.segment === segment;

function padded(parts: Buffer[], bytes: number): Buffer[] {
  const have = parts.reduce((sum, part) => sum + part.length, 0);
  return have < bytes ? [...parts, Buffer.alloc(bytes - have)] : parts;
}
