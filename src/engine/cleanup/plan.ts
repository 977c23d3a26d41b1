import { isJBackupError } from "../../domain/errors.js";
import { parseManifestKey } from "../../domain/reference.js";
import { type Gone, oldestWindowBase, planRetention, windowEnd } from "../../domain/retention.js";
import { isHistoryName, parseLsn, parseSegmentName, parseWalKey, segmentAt } from "../../domain/wal.js";
import type { ObjectFacts } from "../../storage/storage.js";
import { pinsOf } from "../pins.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";
import { goneTenants } from "../tenants/gone.js";
import type { Survey, SurveyedBackup } from "../verify/survey.js";
import { USUAL_SEGMENT_BYTES } from "../wal/segmentHeader.js";
import { isWhole, keptBackup, knownBadIn, policyOf } from "./kept.js";
import { type Pauses, pauses } from "./pauses.js";
import { planReports, type ReportsPlan } from "./reports.js";

export interface StoragePlan {
  storage: string;
  /** How many backups it holds. */
  backups: number;
  keep: { id: string; label: string; reasons: string[] }[];
  remove: SurveyedBackup[];
  /** WAL from before every moment that is promised. */
  wal: ObjectFacts[];
  /** What killed runs left, old enough to be surely nobody's. */
  orphans: ObjectFacts[];
}

export interface CleanupPlan {
  storages: StoragePlan[];
  survey: Survey;
  /** Tenants of whom the last copies may go. */
  gone: ReadonlyMap<string, Gone>;
  /** Storages about which nothing is decided, and why. */
  passedOver: { storage: string; why: string }[];
  reports: ReportsPlan;
}

const ORPHAN_MS = 48 * 3_600_000;

export async function planCleanup(site: Site, survey: Survey): Promise<CleanupPlan> {
  const pins = await pinsOf(site, survey.storages);
  const pausing = await pauses(site, survey);
  const held = await inUse(site);
  const gone = await goneTenants(site);
  const passedOver = survey.problems
    .filter(({ path }) => path === "")
    .map(({ storage, problem }) => ({ storage, why: problem }));
  const storages: StoragePlan[] = [];
  for (const { name } of survey.storages) {
    const listed = survey.listed.get(name) ?? new Map<string, ObjectFacts>();
    const here = survey.backups.filter(({ folder }) => listed.has(manifestKey(folder)));
    const unread = unreadIn(listed, survey);
    if (unread !== null) {
      passedOver.push({
        storage: name,
        why: `${unread} cannot be read anywhere, and what it needs is not known`,
      });
      continue;
    }
    const empty = here.length === 0 && survey.backups.some(({ record }) => isBelievedIn(record, name));
    if (empty) passedOver.push({ storage: name, why: "it lists no backup, and the catalog knows of some" });
    else storages.push(planStorage(site, survey, { name, listed, here, pins, held, pausing, gone }));
  }
  return { storages, survey, gone, passedOver, reports: await planReports(site) };
}

/** A manifest that is listed and was read nowhere: its backup must not be planned as if it did not exist. */
function unreadIn(listed: Map<string, ObjectFacts>, { backups }: Survey): string | null {
  const read = new Set(backups.map(({ id }) => id));
  for (const key of listed.keys()) {
    const place = parseManifestKey(key);
    if (place !== null && !read.has(place.id)) return key;
  }
  return null;
}

const isBelievedIn = (record: SurveyedBackup["record"], storage: string): boolean =>
  record?.copies.some((copy) => copy.storage === storage && copy.status === "stored") ?? false;

/** One that was killed says that it runs until the next one settles it: it holds nothing back for longer than this. */
const LONGEST_RESTORE_MS = 48 * 3_600_000;

/** What a restore, here or on another host, is reading. */
async function inUse(site: Site): Promise<Map<string, string>> {
  const since = new Date(site.clock.now().getTime() - LONGEST_RESTORE_MS).toISOString();
  try {
    const running = await site.catalog.restores({ status: ["in_progress"] });
    return new Map(
      running
        .filter(({ startedAt }) => startedAt >= since)
        .map(({ backupId, target }) => [backupId, `a restore of it into ${target} is under way`]),
    );
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error; // nothing is removed without it
    return new Map();
  }
}

interface Looked {
  name: string;
  listed: Map<string, ObjectFacts>;
  here: SurveyedBackup[];
  pins: Map<string, string>;
  held: Map<string, string>;
  pausing: Pauses;
  gone: ReadonlyMap<string, Gone>;
}

function planStorage(
  site: Site,
  survey: Survey,
  { name, listed, here, pins, held, pausing, gone }: Looked,
): StoragePlan {
  const now = site.clock.now();
  const policy = policyOf(site, name);
  const { pitrWindowMs } = site.config.retention;
  const isKnownBad = knownBadIn(survey.backups, name);
  const backups = here.map((backup) => keptBackup(backup, isWhole(backup, listed) && !isKnownBad(backup)));
  const newestTimeline = newestTimelineIn(here, listed);
  const rules = { policy, pins, held, pitrWindowMs, newestTimeline, gone };
  const answer = planRetention({ ...rules, backups, now, ...pausing });
  const byId = new Map(here.map((backup) => [backup.id, backup]));
  const orphans = (survey.unknown.get(name) ?? []).filter(
    ({ modifiedAt }) => now.getTime() - modifiedAt.getTime() > ORPHAN_MS,
  );
  // older bases that are held on to want their WAL too
  const isHeldUp =
    held.size > 0 ||
    backups.some((backup) => backup.kind === "full" && (!backup.isGood || pausing.paused(backup) !== null));
  const base = byId.get(
    oldestWindowBase(backups, pitrWindowMs, windowEnd({ backups, now, ...pausing }), newestTimeline) ?? "",
  );
  return {
    storage: name,
    backups: here.length,
    keep: [...answer.keep].map(([id, reasons]) => ({ id, label: labelOf(byId, id), reasons })),
    remove: answer.remove.flatMap((id) => byId.get(id) ?? []),
    wal:
      policy === null || base === undefined || isHeldUp
        ? []
        : [
            ...walBefore(base, [...listed.values()]),
            ...walOfEarlierClusters(here, [...listed.values()], now.getTime() - pitrWindowMs),
          ],
    orphans,
  };
}

/** Of the cluster that the newest base is of. */
function newestTimelineIn(here: SurveyedBackup[], listed: Map<string, ObjectFacts>): number {
  const newest = here.reduce<SurveyedBackup | null>(
    (one, other) =>
      other.body.systemId !== null && other.body.createdAt > (one?.body.createdAt ?? "") ? other : one,
    null,
  );
  let timeline = 0;
  for (const key of listed.keys()) {
    const parsed = parseWalKey(key);
    if (parsed !== null && parsed.systemId === newest?.body.systemId)
      timeline = Math.max(timeline, Number.parseInt(parsed.file.name.slice(0, 8), 16));
  }
  return timeline;
}

const labelOf = (byId: Map<string, SurveyedBackup>, id: string): string => byId.get(id)?.body.label ?? id;

/** Of a cluster that no backup here is of any more, and from before the window: there is nothing to replay it on. */
function walOfEarlierClusters(here: SurveyedBackup[], listed: ObjectFacts[], fromMs: number): ObjectFacts[] {
  const known = new Set(here.map(({ body }) => body.systemId));
  return listed.filter(({ key, modifiedAt }) => {
    const parsed = parseWalKey(key);
    return parsed !== null && !known.has(parsed.systemId) && modifiedAt.getTime() < fromMs;
  });
}

/** Whole segments and pieces before the base's beginning, on its timeline and on those before it. Histories and keys stay. */
function walBefore({ body }: SurveyedBackup, listed: ObjectFacts[]): ObjectFacts[] {
  const { timeline, startLsn, systemId } = body;
  if (timeline === null || startLsn === null || !systemId) return [];
  const segmentBytes = body.walSegmentBytes ?? USUAL_SEGMENT_BYTES;
  const first = segmentAt(parseLsn(startLsn), segmentBytes);
  return listed.filter(({ key }) => {
    const parsed = parseWalKey(key);
    if (parsed === null || parsed.systemId !== systemId || isHistoryName(parsed.file.name)) return false;
    try {
      const segment = parseSegmentName(parsed.file.name.slice(0, 24), segmentBytes);
      return segment.timeline <= timeline && segment.number < first;
    } catch (error) {
      if (isJBackupError(error, "usage")) return false; // a name that cannot be of this cluster is left alone
      throw error;
    }
  });
}
