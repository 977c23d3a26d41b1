import { type Backup, isHeld, type StorageKind } from "../../domain/backup.js";
import type { StorageFacts } from "../../domain/health.js";
import {
  daysUntilFull,
  everyDay,
  filledPercent,
  fullnessOf,
  growthOf,
  type StorageDay,
  type StorageUse,
} from "../../domain/storageUse.js";
import type { Site } from "../site.js";
import type { ProbedStorage } from "./probe.js";

export interface StorageStatus {
  name: string;
  kind: StorageKind;
  /** Null where it cannot be asked from this host. */
  reachable: boolean | null;
  error: string | null;
  copies: { stored: number; missing: number; damaged: number };
  /** The newest full backup that is stored there. */
  lastFullAt: string | null;
  hasNewestFull: boolean | null;
  verifiedAt: string | null;
  testRestoredAt: string | null;
  usedBytes: number;
  /** Where it is known or configured. */
  capacityBytes: number | null;
  freeBytes: number | null;
  filledPercent: number | null;
  growthBytesPerDay: number | null;
  daysUntilFull: number | null;
  history: StorageDay[];
}

const HISTORY_DAYS = 30;
const DAY_MS = 86_400_000;

export const firstDay = (site: Site): string =>
  new Date(site.clock.now().getTime() - HISTORY_DAYS * DAY_MS).toISOString().slice(0, 10);

/** What the catalog knows of the use of each storage; nothing where it cannot be asked. */
export interface KnownUse {
  use: StorageUse[];
  fulls: Backup[];
  verifiedAt: ReadonlyMap<string, string>;
  testRestoredAt: ReadonlyMap<string, string>;
}

export const storageStatuses = (site: Site, probed: ProbedStorage[], known: KnownUse): StorageStatus[] =>
  site.config.storages.map(({ name, kind, capacityBytes: configured }) => {
    const seen = probed.find((one) => one.name === name);
    const use = known.use.find(({ storage }) => storage === name);
    const usedBytes = use?.bytes ?? 0;
    const growth = growthIn(site, use);
    const room = roomOf(configured ?? null, usedBytes, seen);
    const stored = known.fulls.filter(isHeld).filter((full) => isIn(full, name));
    return {
      name,
      kind,
      reachable: seen?.isReachable ?? null,
      error: seen?.error ?? null,
      copies: { stored: use?.stored ?? 0, missing: use?.missing ?? 0, damaged: use?.damaged ?? 0 },
      lastFullAt: stored[0]?.createdAt ?? null,
      hasNewestFull: known.fulls[0] === undefined ? null : isIn(known.fulls[0], name),
      verifiedAt: known.verifiedAt.get(name) ?? null,
      testRestoredAt: known.testRestoredAt.get(name) ?? null,
      usedBytes,
      ...room,
      filledPercent: filledPercent(room.freeBytes, room.capacityBytes),
      growthBytesPerDay: growth.perDay,
      daysUntilFull: daysUntilFull(room.freeBytes, growth.perDay),
      history: growth.days,
    };
  });

const isIn = ({ copies }: Backup, name: string): boolean =>
  copies.some(({ storage, status }) => storage === name && status === "stored");

export function growthIn(
  site: Site,
  use: StorageUse | undefined,
): { days: StorageDay[]; perDay: number | null } {
  if (use === undefined) return { days: [], perDay: null };
  const today = site.clock.now().toISOString().slice(0, 10);
  // nothing changed for long: it stands where it stood
  const changes = use.days.length > 0 ? use.days : [{ day: today, bytes: use.bytes }];
  const days = everyDay(changes, today, HISTORY_DAYS);
  return { days, perDay: growthOf(days) };
}

/** A configured capacity is a limit of the site's own; a disk's is what everybody on it shares. */
export function roomOf(
  configured: number | null,
  usedBytes: number,
  seen: Pick<ProbedStorage, "freeBytes" | "totalBytes"> | undefined,
): { capacityBytes: number | null; freeBytes: number | null } {
  const free = seen?.freeBytes ?? null;
  if (configured === null) return { capacityBytes: seen?.totalBytes ?? null, freeBytes: free };
  const own = Math.max(0, configured - usedBytes);
  return { capacityBytes: configured, freeBytes: free === null ? own : Math.min(own, free) };
}

export const storageFacts = (storages: StorageStatus[], now: Date): StorageFacts[] =>
  storages.map((one) => ({
    name: one.name,
    isLocal: one.kind === "local",
    error: one.reachable === false ? one.error : null,
    hasNewestFull: one.hasNewestFull,
    stored: one.copies.stored,
    missing: one.copies.missing,
    damaged: one.copies.damaged,
    verifiedAgeMs: one.verifiedAt === null ? null : now.getTime() - Date.parse(one.verifiedAt),
    fullness: fullnessOf(one.filledPercent, one.daysUntilFull),
  }));
