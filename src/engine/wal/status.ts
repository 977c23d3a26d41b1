import { isJBackupError, reasonOf } from "../../domain/errors.js";
import type { ManifestBody } from "../../domain/manifest.js";
import { lsnText, parseLsn } from "../../domain/wal.js";
import {
  holesOf,
  holeText,
  pathFrom,
  stretchesOf,
  type WalBase,
  type WalInventory,
  type WalLeg,
  windowOf,
} from "../../domain/walCoverage.js";
import { routesFrom } from "../../domain/walRoutes.js";
import type { WalHealth, WalServer } from "../../postgres/postgres.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { slotName } from "../archiveWal.js";
import { physicalBackups } from "../bases.js";
import { knownSystem } from "../ownSystem.js";
import type { Site } from "../site.js";
import { loadInventory } from "./inventory.js";
import { USUAL_SEGMENT_BYTES } from "./segmentHeader.js";
import { openWalReader } from "./walReader.js";

export interface Moment {
  at: string;
  lsn: string;
}

/** A timeline, which `--timeline` follows. */
export interface TimelineWay {
  timeline: number;
  /** Null for one that no other is known to have led to. */
  left: { timeline: number; lsn: string } | null;
  /** By then it had begun. */
  begunBy: string | null;
  window: { from: Moment; to: Moment };
}

export interface WalStatus {
  systemId: string | null;
  /** The moments that can be reached without a gap, up to the newest; null while there is no base or no WAL. */
  window: { from: Moment; to: Moment } | null;
  bases: { id: string; label: string; from: Moment; to: Moment; hole: string | null }[];
  timelines: { timeline: number; from: string; to: string; until: string }[];
  /** What can be reached along each timeline to which a base leads, oldest first. */
  ways: TimelineWay[];
  holes: { timeline: number; from: string; to: string }[];
  segments: number;
  storedBytes: number;
  /** Null when the server cannot be asked. */
  server: WalHealth | null;
  serverError: string | null;
  /** Timelines whose histories no key here opens: whether the ones before lead into them is not known. */
  sealedTimelines: number[];
  /** Storages that could not be read: what only they hold is missing above. */
  unread: string[];
  warnings: string[];
}

/** What is stored, what can be reached with it, and how the server is doing. Needs neither the server nor a private key. */
export async function walStatus(site: Site): Promise<WalStatus> {
  const bodies: ManifestBody[] = [];
  const { server, serverError, live } = await askServer(site);
  const status = await unlessAway(site, async () => {
    for await (const { manifest } of physicalBackups(site)) bodies.push(manifest.body);
    const systemId = live?.systemId ?? bodies[0]?.server?.systemId ?? (await knownSystem(site));
    return storedStatus(site, systemId, bodies, live?.segmentBytes);
  });
  const told = { ...status, server, serverError, warnings: warningsOf(status, server) };
  await raiseAlerts(site, told);
  return told;
}

async function askServer(site: Site): Promise<{
  server: WalHealth | null;
  serverError: string | null;
  live: Pick<WalServer, "systemId" | "segmentBytes"> | null;
}> {
  try {
    const postgres = await site.postgres();
    const session = await postgres.admin();
    try {
      const live = await postgres.wal.server(session);
      const server = await postgres.wal.health(session, slotName(site), live.walDirectory);
      return { server, serverError: null, live };
    } finally {
      await session.close();
    }
  } catch (error) {
    if (!isJBackupError(error)) throw error;
    return { server: null, serverError: error.message, live: null };
  }
}

type Stored = Omit<WalStatus, "server" | "serverError" | "warnings">;

const NOTHING: Stored = {
  systemId: null,
  window: null,
  bases: [],
  timelines: [],
  ways: [],
  holes: [],
  segments: 0,
  storedBytes: 0,
  sealedTimelines: [],
  unread: [],
};

/** With every storage away the server's own part is all the more worth knowing. */
async function unlessAway(site: Site, ask: () => Promise<Stored>): Promise<Stored> {
  try {
    return await ask();
  } catch (error) {
    if (!isJBackupError(error, "storage_unavailable", "storage_denied", "not_found")) throw error;
    site.report.warn(`what is stored cannot be read: ${error.message}`);
    return { ...NOTHING, unread: site.config.storages.map(({ name }) => name) };
  }
}

async function storedStatus(
  site: Site,
  systemId: string | null,
  all: ManifestBody[],
  liveSegmentBytes: number | undefined,
): Promise<Stored> {
  if (systemId === null) return NOTHING;
  const bodies = all.filter(({ server }) => server?.systemId === systemId);
  const segmentBytes = Number(liveSegmentBytes ?? bodies[0]?.metadata.walSegmentBytes ?? USUAL_SEGMENT_BYTES);
  const reader = await openWalReader(site, systemId);
  const inventory = await loadInventory(site, reader, segmentBytes);
  const stretches = stretchesOf(inventory);
  // a hole at the very beginning of a timeline shows on the way to it only
  const holes = holesOf(stretches);
  const bases = bodies.map((body) => {
    const path = pathFrom(inventory, baseOf(body));
    if (path.hole !== null && !holes.some(({ to }) => to === path.hole?.to)) holes.push(path.hole);
    const end = endTimeOf(body);
    return {
      id: body.backupId,
      label: body.label,
      from: { at: end, lsn: body.endLsn ?? "0/0" },
      to: { at: path.until?.toISOString() ?? end, lsn: lsnText(path.endLsn) },
      hole: path.hole === null ? null : holeText(path.hole),
    };
  });
  return {
    systemId,
    window: windowOf(bases),
    bases,
    timelines: stretches.map(({ timeline, from, to, until }) => ({
      timeline,
      from: lsnText(from),
      to: lsnText(to),
      until: until.toISOString(),
    })),
    ways: waysOf(inventory, bodies),
    holes: holes.map(({ timeline, from, to }) => ({
      timeline,
      from: lsnText(from),
      to: lsnText(to),
    })),
    segments: inventory.stored.filter(({ file }) => file.kind === "segment").length,
    storedBytes: inventory.stored.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    sealedTimelines: inventory.sealedHistories,
    unread: [...reader.unread].map(([name, error]) => `${name}: ${reasonOf(error)}`),
  };
}

/** Along each timeline from the oldest base that leads to its end. */
function waysOf(inventory: WalInventory, bodies: ManifestBody[]): TimelineWay[] {
  const reached = bodies.flatMap((body) => {
    const at = endTimeOf(body);
    return routesFrom(inventory, baseOf(body)).map(({ timeline, legs, path, begunBy }) => ({
      timeline,
      left: leftIn(legs),
      begunBy: begunBy?.toISOString() ?? null,
      from: { at, lsn: body.endLsn ?? "0/0" },
      to: { at: path.until?.toISOString() ?? at, lsn: lsnText(path.endLsn) },
      hole: path.hole === null ? null : holeText(path.hole),
    }));
  });
  return [...Map.groupBy(reached, ({ timeline }) => timeline)]
    .sort(([a], [b]) => a - b)
    .flatMap(([timeline, found]) => {
      const window = windowOf(found);
      if (window === null) return [];
      const left = found.find((one) => one.left !== null)?.left ?? null;
      const begunBy = found.find((one) => one.begunBy !== null)?.begunBy ?? null;
      return [{ timeline, left, begunBy, window: { from: window.from, to: window.to } }];
    });
}

function leftIn(legs: WalLeg[]): TimelineWay["left"] {
  const [before, own] = legs.slice(-2);
  return before === undefined || own === undefined
    ? null
    : { timeline: before.timeline, lsn: lsnText(own.from) };
}

const endTimeOf = (body: ManifestBody): string => String(body.metadata.endTime ?? body.finishedAt);

const baseOf = (body: ManifestBody): WalBase => ({
  timeline: body.timeline ?? 1,
  startLsn: parseLsn(body.startLsn ?? "0/0"),
  endLsn: parseLsn(body.endLsn ?? "0/0"),
  endsSegment: body.metadata.takenOn !== "standby",
});

/** A hole counts when a base before it would need what is missing. */
export const isBroken = ({ bases }: Pick<WalStatus, "bases">): boolean =>
  bases.some(({ hole }) => hole !== null);

const FULL = { warn: 60, critical: 80 };

function warningsOf({ bases, sealedTimelines }: Stored, server: WalHealth | null): string[] {
  const filled = server?.pgWal.filledPercent ?? 0;
  return [
    ...bases.flatMap(({ label, hole }) =>
      hole === null ? [] : [`from ${label} nothing behind ${hole} can be reached`],
    ),
    ...(sealedTimelines.length > 0
      ? [
          `the histories of timelines ${sealedTimelines.join(", ")} are sealed: where they begin shows with the private key only`,
        ]
      : []),
    ...(filled >= FULL.warn ? [`pg_wal has used ${filled} % of what it may`] : []),
    ...(server !== null && server.slot === null && server.archiver === null
      ? ["there is no replication slot yet: jbackup backup wal makes it"]
      : []),
    ...archiverWarnings(server?.archiver ?? null),
    ...(server?.slot?.status === "lost" ? ["the replication slot has lost WAL that was not stored"] : []),
  ];
}

/** Failures that a later success made up for are history. */
function archiverWarnings(archiver: WalHealth["archiver"]): string[] {
  const { lastFailed, lastFailedAt, lastArchivedAt } = archiver ?? {};
  if (!lastFailedAt || (lastArchivedAt && lastArchivedAt > lastFailedAt)) return [];
  return [
    `archive_command fails, at ${lastFailedAt} for ${lastFailed}: the server keeps its WAL, look into its log`,
  ];
}

async function raiseAlerts(site: Site, { bases, server }: WalStatus): Promise<void> {
  const broken = bases.filter(({ hole }) => hole !== null);
  if (broken.length > 0)
    await raiseAlert(site, {
      type: "WAL_GAP",
      severity: "critical",
      fingerprint: "wal_hole",
      message: `WAL is missing: ${broken[0]?.hole}`,
      hint: "make a new base: jbackup backup full",
    });
  else await resolveAlert(site, "wal_hole", "no WAL is missing");
  const filled = server?.pgWal.filledPercent;
  if (filled === undefined || filled === null) return;
  if (filled >= FULL.warn)
    await raiseAlert(site, {
      type: "STORAGE_CAPACITY",
      severity: filled >= FULL.critical ? "critical" : "warning",
      fingerprint: "pg_wal_full",
      message: `pg_wal has used ${filled} % of what it may`,
      hint: "run jbackup backup wal and look at what it says; the slot is never dropped by itself",
    });
  else await resolveAlert(site, "pg_wal_full", "pg_wal has room again");
}
