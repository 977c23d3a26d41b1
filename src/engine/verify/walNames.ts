import { oldestWindowBase } from "../../domain/retention.js";
import {
  isHistoryName,
  isNameOfSize,
  parseLsn,
  parseSegmentName,
  parseWalKey,
  segmentAt,
} from "../../domain/wal.js";
import { isPhysical } from "../bases.js";
import { keptBackup, policyOf } from "../cleanup/kept.js";
import type { Site } from "../site.js";
import { USUAL_SEGMENT_BYTES } from "../wal/segmentHeader.js";
import type { Problem } from "./problem.js";
import type { Survey, SurveyedBackup } from "./survey.js";

/** A whole file of the WAL, wherever it is stored. */
export interface WalName {
  key: string;
  systemId: string;
  name: string;
}

/** Pieces come and go while the log is followed: only whole files must be everywhere. */
export function namesIn({ listed }: Survey): WalName[] {
  const names = new Map<string, WalName>();
  for (const found of listed.values())
    for (const key of found.keys()) {
      const parsed = parseWalKey(key);
      if (parsed === null || parsed.file.kind === "piece") continue;
      names.set(key, { key, systemId: parsed.systemId, name: parsed.file.name });
    }
  return [...names.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** What others have and a storage needs: the way from its own bases to now. */
export async function missingIn(site: Site, survey: Survey, names: WalName[]): Promise<Problem[]> {
  const timelineOf = ({ systemId, name }: WalName): string => `${systemId} ${name.slice(0, 8)}`;
  const newest = new Map(names.map((one) => [timelineOf(one), one.key]));
  const problems: Problem[] = [];
  for (const storage of survey.storages) {
    const here = survey.listed.get(storage.name);
    const isNeeded = neededIn(site, survey, storage.name);
    for (const one of names) {
      if (here?.has(one.key) === true || !isNeeded(one)) continue;
      // what was archived last may have been on its way while the storages were listed
      const isNewest = newest.get(timelineOf(one)) === one.key;
      if (isNewest && (await storage.stat(one.key)) !== undefined) continue;
      problems.push(missing(storage.name, one.key));
    }
  }
  return problems;
}

export const missing = (storage: string, path: string): Problem => ({
  backupId: null,
  storage,
  path,
  problem: "is missing",
  kind: "missing",
  sha256: null,
  bytes: null,
});

/** From the oldest base from which this storage promises any later moment; cleanup lets go of what is older. */
function neededIn(site: Site, survey: Survey, storage: string): (name: WalName) => boolean {
  const held = survey.backups.filter(({ holders, body }) => holders.includes(storage) && isPhysical(body));
  const base = oldestBase(site, storage, held);
  const { timeline, startLsn, systemId: ownId, walSegmentBytes } = base?.body ?? {};
  if (timeline == null || startLsn == null || !ownId) return () => false;
  const segmentBytes = walSegmentBytes ?? USUAL_SEGMENT_BYTES;
  const first = segmentAt(parseLsn(startLsn), segmentBytes);
  return ({ systemId, name }) => {
    if (systemId !== ownId) return false;
    if (isHistoryName(name)) return true;
    if (!isNameOfSize(name, segmentBytes)) return false; // nobody of us named it
    const segment = parseSegmentName(name.slice(0, 24), segmentBytes);
    return segment.timeline > timeline || (segment.timeline === timeline && segment.number >= first);
  };
}

function oldestBase(site: Site, storage: string, held: SurveyedBackup[]): SurveyedBackup | undefined {
  if (policyOf(site, storage) === null) return held.at(-1); // newest first
  const { pitrWindowMs } = site.config.retention;
  const id = oldestWindowBase(
    held.map((backup) => keptBackup(backup, true)),
    pitrWindowMs,
    site.clock.now(),
  );
  return held.find((backup) => backup.id === id);
}
