import { parseManifestKey } from "../../domain/reference.js";
import type { Storage } from "../../storage/storage.js";
import { inTime } from "../inTime.js";
import type { Site } from "../site.js";
import type { ProbedStorage } from "./probe.js";

/** Manifests and WAL by their ages: what a host knows that has no catalog. */
export interface SeenInStorages {
  /** When the newest of each kind was stored. Tenants' are not among them: their folders are too many to look into. */
  newest: Map<string, Date>;
  /** The newest full backup of each storage. */
  fullAt: Map<string, { id: string; at: Date }>;
}

const KINDS = ["full", "config"] as const;

export async function seenInStorages(site: Site, probed: ProbedStorage[]): Promise<SeenInStorages> {
  const seen: SeenInStorages = { newest: new Map(), fullAt: new Map() };
  await Promise.all(
    probed.map(async (one) => {
      const { storage } = one;
      if (storage === null) return;
      try {
        await inTime(look(site, storage, seen), `the list of ${storage.location}`, LOOK_MS);
      } catch (error) {
        site.signal.throwIfAborted();
        one.isReachable = false;
        one.error ??= error instanceof Error ? error.message : String(error);
      }
    }),
  );
  return seen;
}

const LOOK_MS = 10_000;

async function look(site: Site, storage: Storage, seen: SeenInStorages): Promise<void> {
  for (const kind of KINDS)
    for (const month of lastMonths(site.clock.now()))
      for await (const { key, modifiedAt } of storage.list(`backups/${kind}/${month}/`)) {
        const place = parseManifestKey(key);
        if (place === null) continue;
        later(seen.newest, kind, modifiedAt);
        const known = seen.fullAt.get(storage.name);
        if (kind === "full" && (known === undefined || known.id < place.id))
          seen.fullAt.set(storage.name, { id: place.id, at: modifiedAt });
      }
  for await (const { modifiedAt } of storage.list("wal/")) later(seen.newest, "wal", modifiedAt);
}

function later(newest: Map<string, Date>, kind: string, at: Date): void {
  const known = newest.get(kind);
  if (known === undefined || known < at) newest.set(kind, at);
}

/** Folders are named for the month: older ones say nothing about whether backups are made now. */
export function lastMonths(now: Date): string[] {
  return [0, 1, 2].map((back) => {
    const month = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1));
    return month.toISOString().slice(0, 7).replace("-", "/");
  });
}
