import { isJBackupError } from "../../domain/errors.js";
import { isNameOfSize, parseSegmentName, type WalFile } from "../../domain/wal.js";
import { piecesToJoin } from "../../domain/walCoverage.js";
import { isBadCopy } from "./sealedWal.js";
import type { WalEntry, WalReader } from "./walReader.js";

/** Enough to tell a timeline from a pile of garbage. */
const MOST_TRIED = 64;

/**
 * A history as it is stored. Null also when no copy of it opens and no WAL of its timeline does either: then somebody put a
 * name there, and a name alone must keep nobody from recovering. The bad copies are told by the reader.
 */
export async function readHistory(
  reader: WalReader,
  name: string,
  ofTimeline: () => Promise<readonly WalEntry[]>,
): Promise<Buffer | null> {
  try {
    return await reader.get(name);
  } catch (error) {
    if (!isBadCopy(error)) throw error;
    const timeline = name.slice(0, 8);
    const wal = (await ofTimeline()).filter(
      ({ file }) => file.kind !== "history" && file.name.startsWith(timeline),
    );
    for (const { file } of wal.slice(0, MOST_TRIED)) if (await opens(reader, file.name)) throw error;
    return null;
  }
}

/** False only when every copy was seen and is bad; where a key is missing or a storage is away the name is believed. */
async function opens(reader: WalReader, name: string): Promise<boolean> {
  try {
    return (await reader.get(name)) !== null;
  } catch (error) {
    if (!isJBackupError(error)) throw error;
    return !isBadCopy(error);
  }
}

type Piece = Extract<WalFile, { kind: "piece" }>;

/**
 * Without the pieces that do not open. One run cuts a segment into pieces that meet and never overlap: only where they do, and
 * at the end, can a name claim more than there is, so only those are opened.
 */
export async function withoutFalsePieces(reader: WalReader, stored: WalEntry[]): Promise<WalEntry[]> {
  const whole = new Set(stored.flatMap(({ file }) => (file.kind === "segment" ? [file.name] : [])));
  const pieces = stored.flatMap(({ file }) =>
    file.kind === "piece" && !whole.has(file.segment) ? [file] : [],
  );
  const bad = new Set<string>();
  for (const found of Map.groupBy(pieces, ({ segment }) => segment).values())
    for (const name of await falseOnes(reader, found)) bad.add(name);
  return stored.filter(({ file }) => !bad.has(file.name));
}

async function falseOnes(reader: WalReader, pieces: Piece[]): Promise<Set<string>> {
  const bad = new Set<string>();
  const good = new Set<string>();
  for (;;) {
    const left = pieces.filter(({ name }) => !bad.has(name));
    const chosen = piecesToJoin(left);
    const doubtful = chosen.filter(
      ({ name }, nth) => !good.has(name) && (nth === chosen.length - 1 || overlaps(left, name)),
    );
    for (const { name } of doubtful) ((await opens(reader, name)) ? good : bad).add(name);
    if (doubtful.every(({ name }) => good.has(name))) return bad;
  }
}

function overlaps(pieces: Piece[], name: string): boolean {
  const own = pieces.find((piece) => piece.name === name);
  return pieces.some(
    (other) => own !== undefined && other !== own && other.from < own.to && own.from < other.to,
  );
}

/**
 * Without the segments that are none: a name behind a hole makes the hole, and one at the end lengthens the window. The one
 * behind a hole is opened; the last one is too when a recovery is planned, and else its header is looked at. What every storage
 * holds was put there by an archive that acknowledged it: it is damaged, and stays.
 */
export async function withoutFalseSegments(
  reader: WalReader,
  stored: WalEntry[],
  segmentBytes: number,
  isRecovery: boolean,
): Promise<WalEntry[]> {
  const everywhere = Math.max(0, ...new Set(stored.map(({ storages }) => storages.length)));
  const seen = new Map<string, boolean>();
  let left = stored.filter(
    ({ file, storages }) =>
      file.kind === "history" || isNameOfSize(file.name, segmentBytes) || storages.length >= everywhere,
  );
  for (;;) {
    const bad = new Set<string>();
    for (const { entry, isBehindHole } of doubtful(left, segmentBytes)) {
      const { name } = entry.file;
      if (entry.storages.length >= everywhere) continue;
      const isTrue =
        seen.get(name) ??
        (await (isBehindHole || isRecovery ? opens(reader, name) : reader.isPlausible(name)));
      seen.set(name, isTrue);
      if (!isTrue) bad.add(name);
    }
    if (bad.size === 0) return left;
    left = left.filter(({ file }) => !bad.has(file.name));
  }
}

function doubtful(stored: WalEntry[], segmentBytes: number): { entry: WalEntry; isBehindHole: boolean }[] {
  const whole = stored
    .filter(({ file }) => file.kind === "segment")
    .map((entry) => ({ entry, ...parseSegmentName(entry.file.name, segmentBytes) }))
    .sort((a, b) => (a.entry.file.name < b.entry.file.name ? -1 : 1));
  return whole.flatMap(({ entry, timeline, number }, at) => {
    const [before, next] = [whole[at - 1], whole[at + 1]];
    const isBehindHole = before?.timeline === timeline && before.number + 1n !== number;
    return isBehindHole || next?.timeline !== timeline ? [{ entry, isBehindHole }] : [];
  });
}
