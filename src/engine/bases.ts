import { isHeld } from "../domain/backup.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { ManifestBody } from "../domain/manifest.js";
import { type RecoveryTarget, targetText } from "../domain/recoveryTarget.js";
import { historyName, parseHistory, parseLsn } from "../domain/wal.js";
import { type FoundBackup, findBackup, idsInStorages } from "./findBackup.js";
import type { Site } from "./site.js";
import { readHistory } from "./wal/believed.js";
import { openWalReader, type WalReader } from "./wal/walReader.js";

export const isPhysical = ({ kind, method }: Pick<ManifestBody, "kind" | "method">): boolean =>
  kind === "full" && method === "physical";

/** Every physical backup there is, newest first, as far as it can be found. Why others were not is added to `passedOver`. */
export async function* physicalBackups(
  site: Site,
  passedOver: JBackupError[] = [],
): AsyncGenerator<FoundBackup> {
  for (const id of await candidateIds(site)) {
    try {
      const found = await findBackup(site, id);
      if (isPhysical(found.manifest.body)) yield found;
    } catch (error) {
      // one bad backup must not hide the good ones
      if (!isJBackupError(error)) throw error;
      site.report.warn(`backup ${id} is passed over: ${error.message}`);
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
    for await (const found of physicalBackups(site, passedOver)) return found;
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

/** Whether the timeline that is asked for, or else the one that was in force at the target, comes after this backup. */
async function isOnTheWay(site: Site, body: ManifestBody, target: RecoveryTarget): Promise<boolean> {
  const own = body.timeline ?? 1;
  const reader = await openWalReader(site, body.server?.systemId ?? "", { without: "lost" });
  const wanted =
    typeof target.timeline === "number" ? target.timeline : await timelineInForce(reader, own, target);
  if (own >= wanted) return own === wanted;
  const history = await readHistory(reader, historyName(wanted), () => reader.list());
  const switches = history === null ? [] : parseHistory(history.toString("utf8"));
  const left = switches.find(({ timeline }) => timeline === own);
  return left !== undefined && left.at >= parseLsn(body.endLsn ?? "0/0");
}

/** The newest of those behind a backup's own that had begun by then. */
async function timelineInForce(reader: WalReader, own: number, target: RecoveryTarget): Promise<number> {
  let inForce = own;
  for (let timeline = own + 1; ; timeline++) {
    const begunBy = await reader.storedAt(historyName(timeline));
    if (begunBy === null) return inForce;
    const isLater = target.kind === "time" && target.timeline !== "latest" && begunBy > target.at;
    if (isLater) continue;
    if ((await readHistory(reader, historyName(timeline), () => reader.list())) !== null) inForce = timeline;
  }
}

/** A position or a name can be on any timeline: then the newest backup before it is as good as another. */
const isOfNewest = ({ kind, timeline }: RecoveryTarget): boolean =>
  kind === "time" || kind === "latest" || timeline === "latest";

/** The newest backup from which the target can be reached. */
export async function chooseBase(
  site: Site,
  reference: string,
  target: RecoveryTarget,
): Promise<FoundBackup> {
  let oldest: FoundBackup | null = null;
  let besides: FoundBackup | null = null;
  const passedOver: JBackupError[] = [];
  const candidates =
    reference === "latest" ? physicalBackups(site, passedOver) : [await findPhysical(site, reference)];
  for await (const found of candidates) {
    const { body } = found.manifest;
    if (besides !== null && besides.manifest.body.server?.systemId !== body.server?.systemId) continue;
    if (typeof target.timeline === "number" && !(await isOnTheWay(site, body, target))) continue;
    oldest = found;
    if (!endsBefore(body, target)) continue;
    if (reference !== "latest" || typeof target.timeline === "number" || !isOfNewest(target)) return found;
    if (await isOnTheWay(site, body, target)) return found;
    // it was made on a timeline that a recovery has left since, behind the point where it was left
    besides ??= found;
  }
  if (besides !== null) return besides;
  if (oldest === null && typeof target.timeline === "number")
    throw new JBackupError("target_refused", `no backup leads to timeline ${target.timeline}`, {
      hint: "jbackup wal status shows the timelines that are stored and what can be reached on each",
    });
  if (oldest === null) throw passedOver.at(-1) ?? noPhysical("there is no physical backup to recover from");
  const { body } = oldest.manifest;
  const nearest = target.kind === "lsn" ? `LSN ${body.endLsn}` : endTimeOf(body);
  throw new JBackupError(
    "target_refused",
    `${targetText(target)} is before the end of ${reference === "latest" ? "the oldest backup" : body.label}`,
    { hint: `the earliest moment that can be reached from it is ${nearest}`, details: { nearest } },
  );
}
