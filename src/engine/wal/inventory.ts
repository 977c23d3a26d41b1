import { isJBackupError } from "../../domain/errors.js";
import { historyName, isHistoryName, parseHistory, type TimelineSwitch } from "../../domain/wal.js";
import type { WalInventory } from "../../domain/walCoverage.js";
import type { Site } from "../site.js";
import { readHistory, withoutFalsePieces, withoutFalseSegments } from "./believed.js";
import type { WalEntry, WalReader } from "./walReader.js";

export interface LoadedInventory extends WalInventory {
  stored: WalEntry[];
  /** Timelines whose histories are stored but cannot be opened here, for want of a key. */
  sealedHistories: number[];
}

/** Everything that the storages hold of a cluster's WAL, without names that somebody put among it. */
export async function loadInventory(
  site: Site,
  reader: WalReader,
  segmentBytes: number,
  { isRecovery = false } = {},
): Promise<LoadedInventory> {
  const segments = await withoutFalseSegments(reader, await reader.list(), segmentBytes, isRecovery);
  const stored = await withoutFalsePieces(reader, segments);
  const histories = new Map<number, TimelineSwitch[]>();
  const sealedHistories: number[] = [];
  for (const { file } of stored) {
    if (!isHistoryName(file.name)) continue;
    const timeline = Number.parseInt(file.name.slice(0, 8), 16);
    site.signal.throwIfAborted();
    try {
      const text = await readHistory(reader, historyName(timeline), async () => stored);
      if (text !== null) histories.set(timeline, parseHistory(text.toString("utf8")));
    } catch (error) {
      if (!isJBackupError(error, "no_key", "secret_unavailable")) throw error;
      sealedHistories.push(timeline);
    }
  }
  return { segmentBytes, stored, histories, sealedHistories };
}
