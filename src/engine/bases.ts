import { isHeld } from "../domain/backup.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { ManifestBody } from "../domain/manifest.js";
import { type RecoveryTarget, targetText } from "../domain/recoveryTarget.js";
import { historyName, parseHistory, parseLsn } from "../domain/wal.js";
import { baseFor, leadsEverywhere } from "../domain/walBases.js";
import type { WalBase, WalInventory } from "../domain/walCoverage.js";
import { routesFrom } from "../domain/walRoutes.js";
import { type FoundBackup, findBackup, idsInStorages } from "./findBackup.js";
import { isUnbelieved, newestOutOfReach, type PassedOver, passedOverText } from "./passedOver.js";
import type { Site } from "./site.js";
import { readHistory } from "./wal/believed.js";
import { loadInventory } from "./wal/inventory.js";
import { USUAL_SEGMENT_BYTES } from "./wal/segmentHeader.js";
import { openWalReader } from "./wal/walReader.js";

export const isPhysical = ({ kind, method }: Pick<ManifestBody, "kind" | "method">): boolean =>
  kind === "full" && method === "physical";

/** Every physical backup there is, newest first, as far as it can be found. Why others were not is added to `passedOver`. */
export async function* physicalBackups(
  site: Site,
  passedOver: JBackupError[] = [],
): AsyncGenerator<FoundBackup> {
  const newer: PassedOver[] = [];
  for (const id of await candidateIds(site)) {
    try {
      const found = await findBackup(site, id);
      if (isPhysical(found.manifest.body)) yield { ...found, passedOver: [...newer] };
    } catch (error) {
      // one bad backup must not hide the good ones
      if (!isJBackupError(error)) throw error;
      newer.push({ id, error });
      site.report.warn(passedOverText({ id, error }));
      passedOver.push(error);
    }
  }
}

async function candidateIds(site: Site): Promise<string[]> {
  try {
    const known = await site.catalog.backups({ kind: "full", status: ["completed", "verified"] });
    const physical = known.filter((backup) => backup.method === "physical" && isHeld(backup));
    if (physical.length > 0) return physical.map(({ id }) => id);
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
    site.report.warn(`the catalog cannot be read (${error.message}); looking into the storages instead`);
  }
  return idsInStorages(site);
}

const noPhysical = (message: string): JBackupError =>
  new JBackupError("not_found", message, { hint: "make one with jbackup backup full" });

/** The physical backup that a reference means; `latest` is the newest of them. */
export async function findPhysical(site: Site, reference: string): Promise<FoundBackup> {
  if (reference === "latest") {
    const passedOver: JBackupError[] = [];
    for await (const found of physicalBackups(site, passedOver)) {
      const outOfReach = found.passedOver.find((one) => !isUnbelieved(one));
      if (outOfReach === undefined) return found;
      throw newestOutOfReach(outOfReach, found.manifest.body.label);
    }
    // that none can be read does not say that there is none
    throw passedOver.at(-1) ?? noPhysical("there is no physical backup yet");
  }
  const found = await findBackup(site, reference);
  if (isPhysical(found.manifest.body)) return found;
  throw new JBackupError("usage", `${found.manifest.body.label} is no physical backup`, {
    hint:
      found.manifest.body.kind === "config"
        ? "add --config-files to bring configuration files back"
        : "only those come back as files, or at a moment in time: jbackup list --kind full shows the methods",
  });
}

const endTimeOf = (body: ManifestBody): string => String(body.metadata.endTime ?? body.finishedAt);

/** Whether a recovery to the target can begin from this backup: it must have ended before. */
function endsBefore(body: ManifestBody, target: RecoveryTarget): boolean {
  if (target.kind === "time") return Date.parse(endTimeOf(body)) <= target.at.getTime();
  if (target.kind === "lsn") return parseLsn(body.endLsn ?? "0/0") <= parseLsn(target.lsn);
  return true;
}

/** Whether the timeline that is asked for comes after this backup. */
async function leadsToTimeline(site: Site, body: ManifestBody, wanted: number): Promise<boolean> {
  if (body.timeline === wanted) return true;
  if ((body.timeline ?? 1) > wanted) return false;
  const reader = await openWalReader(site, body.server?.systemId ?? "", { without: "lost" });
  const history = await readHistory(reader, historyName(wanted), () => reader.list());
  const switches = history === null ? [] : parseHistory(history.toString("utf8"));
  const left = switches.find(({ timeline }) => timeline === body.timeline);
  return left !== undefined && left.at >= parseLsn(body.endLsn ?? "0/0");
}

export const walBaseOf = (body: ManifestBody): WalBase => ({
  timeline: body.timeline ?? 1,
  startLsn: parseLsn(body.startLsn ?? "0/0"),
  endLsn: parseLsn(body.endLsn ?? "0/0"),
  endsSegment: body.metadata.takenOn !== "standby",
});

/** What is stored of the WAL, where a timeline may have left the backup's own; null where surely none did. */
async function forksFrom(site: Site, body: ManifestBody): Promise<WalInventory | null> {
  const reader = await openWalReader(site, body.server?.systemId ?? "", { without: "lost" });
  if ((await reader.storedAt(historyName((body.timeline ?? 1) + 1))) === null) return null;
  return loadInventory(site, reader, Number(body.metadata.walSegmentBytes ?? USUAL_SEGMENT_BYTES));
}

/** The newest backup from which the target can be reached. */
export async function chooseBase(
  site: Site,
  reference: string,
  target: RecoveryTarget,
): Promise<FoundBackup> {
  let oldest: FoundBackup | null = null;
  const passedOver: JBackupError[] = [];
  const isNamed = reference !== "latest";
  const candidates = isNamed ? [await findPhysical(site, reference)] : physicalBackups(site, passedOver);
  const ended: FoundBackup[] = [];
  let forks: WalInventory | null = null;
  for await (const found of candidates) {
    const { body } = found.manifest;
    const isAsked = typeof target.timeline === "number";
    if (isAsked && !(await leadsToTimeline(site, body, target.timeline as number))) continue;
    oldest = found;
    if (!endsBefore(body, target)) continue;
    if (isAsked) return found;
    if (ended.length === 0) {
      forks = await forksFrom(site, body);
      if (forks === null) return found;
    }
    if (body.server?.systemId !== (ended[0] ?? found).manifest.body.server?.systemId) continue;
    ended.push(found);
    if (forks !== null && leadsEverywhere(forks, walBaseOf(body))) break;
  }
  if (forks !== null) return isNamed ? named(site, forks, ended) : newestOnTheWay(forks, ended, target);
  throw refusal(reference, target, oldest, passedOver);
}

/** After a takeover the newest backup may lie on a timeline that the server did not go on from. */
function newestOnTheWay(forks: WalInventory, ended: FoundBackup[], target: RecoveryTarget): FoundBackup {
  const bases = ended.map((found) => ({ ...walBaseOf(found.manifest.body), found }));
  const chosen = baseFor(forks, bases, target);
  if (chosen === null) throw new JBackupError("bug", "no backup leads to the timeline of the target");
  return chosen.found;
}

/** Whoever names a backup gets it, and is told that the server went on elsewhere. */
function named(site: Site, forks: WalInventory, ended: FoundBackup[]): FoundBackup {
  const [found] = ended as [FoundBackup];
  const { body } = found.manifest;
  const newest = Math.max(...forks.histories.keys(), body.timeline ?? 1);
  if (!routesFrom(forks, walBaseOf(body)).some(({ timeline }) => timeline === newest))
    site.report.warn(
      `${body.label} does not lead to timeline ${newest}, which left before it ended: only what was written on timeline ${body.timeline} comes back from it`,
    );
  return found;
}

function refusal(
  reference: string,
  target: RecoveryTarget,
  oldest: FoundBackup | null,
  passedOver: JBackupError[],
): JBackupError {
  if (oldest === null && typeof target.timeline === "number")
    return new JBackupError("target_refused", `no backup leads to timeline ${target.timeline}`, {
      hint: "jbackup wal status shows the timelines that are stored and what can be reached on each",
    });
  if (oldest === null) return passedOver.at(-1) ?? noPhysical("there is no physical backup to recover from");
  const { body } = oldest.manifest;
  const nearest = target.kind === "lsn" ? `LSN ${body.endLsn}` : endTimeOf(body);
  return new JBackupError(
    "target_refused",
    `${targetText(target)} is before the end of ${reference === "latest" ? "the oldest backup" : body.label}`,
    { hint: `the earliest moment that can be reached from it is ${nearest}`, details: { nearest } },
  );
}
