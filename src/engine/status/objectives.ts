import type { Backup, Drill, Restore, Verification } from "../../domain/backup.js";
import type { Site } from "../site.js";
import type { JobStatus } from "./jobs.js";
import type { ProbedServer } from "./probe.js";
import { endOf, type WindowStatus } from "./window.js";

export interface RpoStatus {
  /** How much would be lost if everything but the storages were gone now; null where nothing was ever stored. */
  nowMs: number | null;
  objectiveMs: number;
  /** The newest moment that would come back. */
  upTo: string | null;
  source: "follower" | "wal" | "backup" | null;
  /** What the server still holds and the storages do not; known while it can be asked. */
  unstoredBytes: number | null;
}

export function rpoStatus(
  site: Site,
  known: { fulls: Backup[]; jobs: JobStatus[]; window: WindowStatus | null; server: ProbedServer },
): RpoStatus {
  const now = site.clock.now();
  const slot = known.server.wal?.slot ?? null;
  const objectiveMs = site.config.objectives.rpoMs;
  const told = { objectiveMs, unstoredBytes: slot?.lagBytes ?? null };
  const wal = latest([
    known.window?.source === "storages" ? known.window.to.at : null,
    known.jobs.find(({ name }) => name === "wal")?.lastGoodAt ?? null,
  ]);
  const full = known.fulls[0];
  const upTo = latest([wal, full === undefined ? null : endOf(full)]);
  if (upTo === null) return { ...told, nowMs: null, upTo: null, source: null };
  // a follower ships every second what there is, and a commit of its own every minute
  const isFollowed = slot?.isActive === true && slot.lagBytes < FOLLOWED_BYTES;
  if (isFollowed) {
    const nowMs = Math.min(FOLLOWED_MS, now.getTime() - Date.parse(upTo));
    return { ...told, nowMs, upTo: new Date(now.getTime() - nowMs).toISOString(), source: "follower" };
  }
  const nowMs = Math.max(0, now.getTime() - Date.parse(upTo));
  return { ...told, nowMs, upTo, source: upTo === wal ? "wal" : "backup" };
}

const FOLLOWED_MS = 1_000;
/** About a segment: what a follower may well be in the middle of. */
const FOLLOWED_BYTES = 32 * 1024 * 1024;

const latest = (times: (string | null)[]): string | null =>
  times
    .filter((at) => at !== null)
    .sort()
    .at(-1) ?? null;

export interface RtoStatus {
  /** How long the last recovery of the whole took. */
  lastMs: number | null;
  objectiveMs: number;
  at: string | null;
  source: "drill" | "recovery" | "restore" | "test restore" | null;
}

/** The others bring back a tenant, a storage, the catalog or keys: that they are quick says nothing of the whole. */
const BRINGS_ALL_BACK = new Set(["server-lost", "database-corrupted", "ransomware"]);

export function rtoStatus(
  site: Site,
  known: { drills: Drill[]; restores: Restore[]; tests: Verification[] },
): RtoStatus {
  const measured = [
    ...known.drills
      .filter(({ runbook }) => BRINGS_ALL_BACK.has(runbook))
      .map(({ finishedAt, rtoMs, drill }) => ({
        at: finishedAt,
        lastMs: rtoMs,
        source: drill ? ("drill" as const) : ("recovery" as const),
      })),
    ...known.restores
      .filter(
        ({ status, tenantIds, mode, metadata }) =>
          status === "completed" && tenantIds.length === 0 && mode !== "merge" && metadata.kind !== "config",
      )
      .map(({ finishedAt, durationMs }) => ({
        at: finishedAt,
        lastMs: durationMs,
        source: "restore" as const,
      })),
    ...known.tests.map(({ checkedAt, metadata, durationMs }) => ({
      at: checkedAt,
      lastMs: typeof metadata.rtoMs === "number" ? metadata.rtoMs : durationMs,
      source: "test restore" as const,
    })),
  ].filter(({ at, lastMs }) => at !== null && lastMs !== null);
  const newest = measured.sort((a, b) => (String(a.at) < String(b.at) ? 1 : -1))[0];
  const objectiveMs = site.config.objectives.rtoMs;
  return newest ? { ...newest, objectiveMs } : { lastMs: null, objectiveMs, at: null, source: null };
}
