import { JBackupError } from "../../domain/errors.js";
import type { PhysicalFacts } from "../../domain/physical.js";
import { type RecoveryTarget, targetText } from "../../domain/recoveryTarget.js";
import { lsnText, parseLsn } from "../../domain/wal.js";
import { holeText, type WalPath } from "../../domain/walCoverage.js";
import { chooseRoute, otherRouteText, routesFrom, type WalRoute } from "../../domain/walRoutes.js";
import type { Site } from "../site.js";
import { fetchWalFile } from "../wal/fetchFile.js";
import { loadInventory } from "../wal/inventory.js";
import { openWalReader } from "../wal/walReader.js";
import type { WalSource } from "./recover.js";

export interface PlannedWal extends WalSource {
  path: WalPath;
  /** The timeline on which the recovery ends. */
  timeline: number;
  /** That timeline is one of several to which the backup leads. */
  isOneOfSeveral: boolean;
  warnings: string[];
}

/**
 * The WAL from a backup to a target. Refused here, before anything is touched, when the target cannot be reached; with `upToHole` the
 * latest moment is the one before the first hole, which `path` tells of.
 */
export async function planWal(
  site: Site,
  facts: PhysicalFacts,
  target: RecoveryTarget,
  { upToHole = false } = {},
): Promise<PlannedWal> {
  refuseFuture(site, target);
  const reader = await openWalReader(site, facts.server.systemId, { without: "lost" });
  const inventory = await loadInventory(site, reader, facts.walSegmentBytes, { isRecovery: true });
  const routes = routesFrom(inventory, {
    timeline: facts.timeline,
    startLsn: parseLsn(facts.startLsn),
    endLsn: parseLsn(facts.endLsn),
    endsSegment: facts.takenOn === "primary",
  });
  const { route, others } = chooseRoute(routes, target);
  const { path, timeline } = route;
  if (!upToHole || target.kind !== "latest") refuseUnreached(target, path, others, facts);
  return {
    path,
    timeline,
    follow: path.isLatest ? "latest" : timeline,
    isOneOfSeveral: routes.length > 1,
    warnings: others.map((other) => otherRouteText(target, other)),
    files: path.files,
    get: (name) =>
      fetchWalFile(reader, name, facts.walSegmentBytes, async (beginning) =>
        inventory.stored.filter(({ file }) => file.name.startsWith(beginning)),
      ),
  };
}

/** For people, and to tell two moments apart: where there are several timelines, with the one that is meant. */
export const momentText = (
  target: RecoveryTarget,
  wal: Pick<PlannedWal, "timeline" | "isOneOfSeveral"> | null,
): string => (wal?.isOneOfSeveral ? `${targetText(target)} on timeline ${wal.timeline}` : targetText(target));

function refuseFuture(site: Site, target: RecoveryTarget): void {
  if (target.kind !== "time" || target.at.getTime() <= site.clock.now().getTime()) return;
  throw new JBackupError("target_refused", `${targetText(target)} is in the future`, {
    hint: "give a moment that has passed, or latest",
  });
}

function refuseUnreached(
  target: RecoveryTarget,
  path: WalPath,
  others: WalRoute[],
  facts: PhysicalFacts,
): void {
  const isBeyond =
    (target.kind === "lsn" && parseLsn(target.lsn) > path.endLsn) ||
    (target.kind === "time" && target.at.getTime() > (path.until ?? new Date(facts.endTime)).getTime());
  if (!isBeyond && !(target.kind === "latest" && path.hole !== null)) return;
  const until = (path.until ?? new Date(facts.endTime)).toISOString();
  const nearest =
    target.kind === "lsn" ? `LSN ${lsnText(path.endLsn)}` : `${until} (LSN ${lsnText(path.endLsn)})`;
  const [other] = others;
  const elsewhere =
    other === undefined
      ? "jbackup wal status shows what is stored"
      : `another timeline reaches it: --timeline ${other.timeline}`;
  const why =
    path.hole === null
      ? "the WAL that is stored ends before"
      : `WAL is missing (${holeText(path.hole)}), and nothing behind it can be reached`;
  throw new JBackupError("target_refused", `${targetText(target)} cannot be reached: ${why}`, {
    hint: `the last moment that can be reached is ${nearest}; ${elsewhere}`,
    details: { nearest: until, nearestLsn: lsnText(path.endLsn) },
  });
}
