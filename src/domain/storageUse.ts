import { medianOf } from "./deviation.js";

/** What a storage holds, by its copies. */
export interface StorageTotal {
  storage: string;
  /** Copies of backups; passes over the WAL are not counted, only their bytes. */
  stored: number;
  missing: number;
  damaged: number;
  bytes: number;
  /** When the storage was last listed whole, and the bytes set right by it. */
  measuredAt: string | null;
}

export interface StorageDay {
  /** 2026-11-20, in UTC. */
  day: string;
  /** At its end. */
  bytes: number;
}

export interface StorageUse extends StorageTotal {
  /** Days on which something changed, oldest first. */
  days: StorageDay[];
}

export interface StorageMeasure {
  storage: string;
  bytes: number;
  at: string;
}

const DAY_MS = 86_400_000;
const dayNumber = (day: string): number => Math.round(Date.parse(`${day}T00:00:00Z`) / DAY_MS);
const dayText = (number: number): string => new Date(number * DAY_MS).toISOString().slice(0, 10);

/** One value for each day up to the last, however few of them had changes; days before the first known one are left out. */
export function everyDay(days: readonly StorageDay[], lastDay: string, most: number): StorageDay[] {
  const known = new Map(days.map(({ day, bytes }) => [dayNumber(day), bytes]));
  const first = Math.min(...known.keys());
  const last = dayNumber(lastDay);
  const from = Math.max(first, last - most + 1);
  const filled: StorageDay[] = [];
  let bytes = 0;
  for (let day = first; day <= last; day++) {
    bytes = known.get(day) ?? bytes;
    if (day >= from) filled.push({ day: dayText(day), bytes });
  }
  return filled;
}

/** Less says nothing about how a storage grows. */
const ENOUGH_DAYS = 4;

/**
 * Bytes a day: the median of the slopes between all pairs of days. One jump, such as a big first backup or a catalog that
 * was read back from the storages, moves it little.
 */
export function growthOf(days: readonly StorageDay[]): number | null {
  if (days.length < ENOUGH_DAYS) return null;
  const slopes: number[] = [];
  for (let a = 0; a < days.length; a++)
    for (let b = a + 1; b < days.length; b++)
      slopes.push(((days[b] as StorageDay).bytes - (days[a] as StorageDay).bytes) / (b - a));
  return Math.round(medianOf(slopes));
}

/** Whole days until nothing is free; null when it does not grow, or nobody knows how much is free. */
export function daysUntilFull(freeBytes: number | null, growthPerDay: number | null): number | null {
  if (freeBytes === null || growthPerDay === null || growthPerDay <= 0) return null;
  return Math.floor(Math.max(0, freeBytes) / growthPerDay);
}

/** How full, in percent of what can be used. */
export function filledPercent(freeBytes: number | null, capacityBytes: number | null): number | null {
  if (freeBytes === null || capacityBytes === null || capacityBytes <= 0) return null;
  return Math.min(100, Math.max(0, Math.round((1 - freeBytes / capacityBytes) * 100)));
}

export type Fullness = "fine" | "filling" | "nearly_full";

const FILLING = { percent: 90, days: 7 };
const NEARLY_FULL = { percent: 97, days: 2 };

/** What a person must be told of: little room, or little time until there is none. */
export function fullnessOf(percent: number | null, days: number | null): Fullness {
  const isPast = (limit: { percent: number; days: number }): boolean =>
    (percent !== null && percent >= limit.percent) || (days !== null && days < limit.days);
  return isPast(NEARLY_FULL) ? "nearly_full" : isPast(FILLING) ? "filling" : "fine";
}
