import type { Backup } from "../../domain/backup.js";
import { isHeld } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import { lsnText, parseLsn } from "../../domain/wal.js";
import {
  lostSpans,
  type Moment,
  type ReachedBase,
  reachedFrom,
  rivalOf,
  rivalText,
  type WindowBase,
} from "../../domain/walWindow.js";
import type { Storage } from "../../storage/storage.js";
import { inTime, PROBE_MS } from "../inTime.js";
import type { Site } from "../site.js";
import { loadInventory } from "../wal/inventory.js";
import { USUAL_SEGMENT_BYTES } from "../wal/segmentHeader.js";
import { openWalReader } from "../wal/walReader.js";
import type { ProbedStorage } from "./probe.js";

export interface WindowStatus {
  from: Moment;
  to: Moment;
  bases: ReachedBase[];
  holes: { timeline: number; from: string; to: string }[];
  /** Moments that no base reaches any more; what follows them is reached. */
  lost: { from: string; to: string }[];
  /** Set while two servers write on two timelines. */
  rival: string | null;
  /** Where this is from: the WAL that the storages list, or, when they cannot be asked in time, the catalog's word. */
  source: "storages" | "catalog";
}

/** The moments that can be reached; null while there is neither a physical base nor WAL. */
export async function pitrWindow(
  site: Site,
  bases: Backup[],
  passes: Backup[],
  probed: ProbedStorage[],
): Promise<WindowStatus | null> {
  const physical = bases.filter((one) => one.method === "physical" && isHeld(one));
  if (physical.length === 0) return null;
  const some = thinned(physical);
  return (await seenInStorages(site, some, passes, probed)) ?? toldByCatalog(some, passes);
}

const MOST_BASES = 15;

/** The newest, the oldest, and enough in between for a picture: from each of them the WAL is followed to its end. */
const thinned = (bases: Backup[]): Backup[] =>
  bases.filter((_, at) => {
    const step = Math.ceil((bases.length - 1) / (MOST_BASES - 1));
    return bases.length <= MOST_BASES || at % step === 0 || at === bases.length - 1;
  });

/** The local disk alone, while what lies there leaves nothing open: listing it costs least. */
async function seenInStorages(
  site: Site,
  bases: Backup[],
  passes: Backup[],
  probed: ProbedStorage[],
): Promise<WindowStatus | null> {
  const readable = probed.flatMap(({ storage }) => storage ?? []);
  const near = readable.filter(({ kind }) => kind === "local");
  const tries = [near, readable].filter((storages, at) => storages.length > (at === 0 ? 0 : near.length));
  let best: WindowStatus | null = null;
  for (const storages of tries) {
    try {
      best = await inTime(listed(site, bases, storages), "the list of the stored WAL", PROBE_MS);
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError) || error.code === "bug") throw error;
      continue;
    }
    if (best.holes.length === 0 && reaches(best, passes[0])) return best;
  }
  return best;
}

/** Whether what the last pass stored is in sight. */
const reaches = ({ to }: WindowStatus, pass: Backup | undefined): boolean =>
  typeof pass?.metadata.toLsn !== "string" || parseLsn(to.lsn) >= parseLsn(pass.metadata.toLsn);

async function listed(site: Site, all: Backup[], storages: Storage[]): Promise<WindowStatus> {
  const opened = storages.map((storage) => ({ name: storage.name, kind: storage.kind, storage }));
  const narrowed: Site = { ...site, storages: async () => opened };
  const systemId = String(all[0]?.metadata.systemId ?? "");
  const bases = all.filter(({ metadata }) => metadata.systemId === systemId);
  const segmentBytes = Number(bases[0]?.metadata.walSegmentBytes ?? USUAL_SEGMENT_BYTES);
  const inventory = await loadInventory(narrowed, await openWalReader(narrowed, systemId), segmentBytes);
  const known = bases.map(windowBase);
  const { bases: reached, window, holes } = reachedFrom(inventory, known);
  const rival = rivalOf(inventory, known, site.clock.now());
  const { from, to } = window ?? (reached[0] as ReachedBase);
  return {
    from,
    to,
    bases: reached,
    holes: holes.map(({ timeline, from, to }) => ({ timeline, from: lsnText(from), to: lsnText(to) })),
    lost: lostSpans(reached),
    rival: rival === null ? null : rivalText(rival),
    source: "storages",
  };
}

const windowBase = (base: Backup): WindowBase => ({
  id: base.id,
  label: base.label,
  endTime: endOf(base),
  timeline: Number(base.metadata.timeline ?? 1),
  startLsn: lsnOf(base, "startLsn"),
  endLsn: lsnOf(base, "endLsn"),
  endsSegment: base.metadata.takenOn !== "standby",
});

function toldByCatalog(bases: Backup[], passes: Backup[]): WindowStatus {
  const newest = bases[0] as Backup;
  const oldest = bases.at(-1) as Backup;
  const last = passes.find(({ createdAt }) => createdAt > newest.createdAt);
  const to: Moment = last
    ? { at: last.createdAt, lsn: String(last.metadata.toLsn ?? newest.metadata.endLsn) }
    : { at: endOf(newest), lsn: String(newest.metadata.endLsn ?? "0/0") };
  return {
    from: { at: endOf(oldest), lsn: String(oldest.metadata.endLsn ?? "0/0") },
    to,
    bases: bases.map((base) => ({
      id: base.id,
      label: base.label,
      // which of them lead to the newest one only the storages know
      timeline: Number(newest.metadata.timeline ?? 1),
      from: { at: endOf(base), lsn: String(base.metadata.endLsn ?? "0/0") },
      to,
      hole: null,
    })),
    holes: [],
    lost: [],
    rival: null,
    source: "catalog",
  };
}

const lsnOf = ({ metadata }: Backup, key: "startLsn" | "endLsn") => parseLsn(String(metadata[key] ?? "0/0"));

export const endOf = ({ metadata, finishedAt, createdAt }: Backup): string =>
  typeof metadata.endTime === "string" ? new Date(metadata.endTime).toISOString() : (finishedAt ?? createdAt);
