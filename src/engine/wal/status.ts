import { isJBackupError, reasonOf } from "../../domain/errors.js";
import type { ManifestBody } from "../../domain/manifest.js";
import { lsnText, parseLsn } from "../../domain/wal.js";
import { holeText, stretchesOf, type WalInventory, type WalLeg } from "../../domain/walCoverage.js";
import { routesFrom } from "../../domain/walRoutes.js";
import {
  leading,
  lostSpans,
  lostText,
  type Moment,
  openHole,
  type ReachedBase,
  reachedFrom,
  rivalOf,
  rivalText,
  strayBase,
  type WindowBase,
  windowOf,
} from "../../domain/walWindow.js";
import type { WalHealth, WalServer } from "../../postgres/postgres.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { slotName } from "../archiveWal.js";
import { physicalBackups, walBaseOf } from "../bases.js";
import { knownSystem } from "../ownSystem.js";
import type { Site } from "../site.js";
import { alertHole, resolveGaps } from "./gapAlerts.js";
import { loadInventory } from "./inventory.js";
import { USUAL_SEGMENT_BYTES } from "./segmentHeader.js";
import { openWalReader } from "./walReader.js";

export type { Moment } from "../../domain/walWindow.js";

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
  bases: ReachedBase[];
  timelines: { timeline: number; from: string; to: string; until: string }[];
  /** What can be reached along each timeline to which a base leads, oldest first. */
  ways: TimelineWay[];
  holes: { timeline: number; from: string; to: string }[];
  /** Moments that no base reaches any more, for WAL that is missing; what follows them is reached. */
  lost: { from: string; to: string }[];
  /** Set while two servers write on two timelines. */
  rival: string | null;
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
  lost: [],
  rival: null,
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
  const known = bodies.map(windowBase);
  const { bases, window, holes } = reachedFrom(inventory, known);
  const rival = rivalOf(inventory, known, site.clock.now());
  return {
    systemId,
    window,
    bases,
    timelines: stretchesOf(inventory).map(({ timeline, from, to, until }) => ({
      timeline,
      from: lsnText(from),
      to: lsnText(to),
      until: until.toISOString(),
    })),
    ways: waysOf(inventory, known),
    holes: holes.map(({ timeline, from, to }) => ({
      timeline,
      from: lsnText(from),
      to: lsnText(to),
    })),
    lost: lostSpans(bases),
    rival: rival === null ? null : rivalText(rival),
    segments: inventory.stored.filter(({ file }) => file.kind === "segment").length,
    storedBytes: inventory.stored.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    sealedTimelines: inventory.sealedHistories,
    unread: [...reader.unread].map(([name, error]) => `${name}: ${reasonOf(error)}`),
  };
}

/** Along each timeline from the oldest base that leads to its end. */
function waysOf(inventory: WalInventory, bases: WindowBase[]): TimelineWay[] {
  const reached = bases.flatMap((base) =>
    routesFrom(inventory, base).map(({ timeline, legs, path, begunBy }) => ({
      timeline,
      left: leftIn(legs),
      begunBy: begunBy?.toISOString() ?? null,
      from: { at: base.endTime, lsn: lsnText(base.endLsn) },
      to: { at: path.until?.toISOString() ?? base.endTime, lsn: lsnText(path.endLsn) },
      hole: path.hole === null ? null : holeText(path.hole),
    })),
  );
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

const windowBase = (body: ManifestBody): WindowBase => ({
  id: body.backupId,
  label: body.label,
  endTime: String(body.metadata.endTime ?? body.finishedAt),
  ...walBaseOf(body),
});

/** A hole counts while it is behind the newest base; one before it costs the moments that `lost` tells. */
export const isBroken = ({ bases }: Pick<WalStatus, "bases">): boolean => openHole(bases) !== null;

const RIVAL = "two_timelines";
const FULL = { warn: 60, critical: 80 };

function warningsOf({ bases, lost, rival, sealedTimelines }: Stored, server: WalHealth | null): string[] {
  const filled = server?.pgWal.filledPercent ?? 0;
  return [
    ...(rival === null ? [] : [rival]),
    ...brokenText(bases),
    ...lost.map(lostText),
    ...strayText(bases),
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

function brokenText(bases: ReachedBase[]): string[] {
  const hole = openHole(bases);
  return hole === null
    ? []
    : [`nothing behind ${hole} can be reached: jbackup backup full makes a base behind it`];
}

function strayText(bases: ReachedBase[]): string[] {
  const found = strayBase(bases);
  return found === null
    ? []
    : [
        `${found.stray.label} is no base for timeline ${found.timeline}, which left before it ended: jbackup backup full makes a newer one`,
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

async function raiseAlerts(site: Site, { bases, rival, unread, server }: WalStatus): Promise<void> {
  const hole = openHole(bases);
  const [newest] = leading(bases);
  if (hole !== null) await alertHole(site, hole);
  else if (newest !== undefined)
    await resolveGaps(
      site,
      parseLsn(newest.from.lsn),
      `every moment since the end of ${newest.label} can be reached`,
    );
  await alertRival(site, rival, unread);
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

async function alertRival(site: Site, rival: string | null, unread: string[]): Promise<void> {
  if (rival !== null)
    await raiseAlert(site, {
      type: "INTEGRITY_FAILURE",
      severity: "critical",
      fingerprint: RIVAL,
      message: rival,
      hint: "end jbackup and PostgreSQL on the server that was left, and take its credentials of the storages away",
    });
  else if (unread.length === 0) await resolveAlert(site, RIVAL, "one timeline is written");
}
