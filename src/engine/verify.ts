import type { VerificationLevel } from "../domain/backup.js";
import { CLEANUP_JOB } from "./cleanup.js";
import { findBackup } from "./findBackup.js";
import { lockOnHost } from "./lock.js";
import { onThisHost, type RunContext, type RunWish, withRun } from "./run.js";
import type { Site } from "./site.js";
import { trustedSigners } from "./siteKeys.js";
import { noteMeasures } from "./status/measure.js";
import { requireStorage, storagesForReading } from "./useStorages.js";
import { checkContents } from "./verify/contents.js";
import { healProblems } from "./verify/healing.js";
import { checkObjects } from "./verify/objects.js";
import type { Problem } from "./verify/problem.js";
import { recordFindings } from "./verify/recordFindings.js";
import { withoutRemoved } from "./verify/removedMeanwhile.js";
import { type Share, shareOf } from "./verify/share.js";
import { type Survey, surveyStorages } from "./verify/survey.js";
import { checkWal } from "./verify/wal.js";

export interface VerifyRequest {
  /** Null: the newest full backup, unless `all`. */
  reference: string | null;
  all: boolean;
  level: Exclude<VerificationLevel, "restore">;
  heal: boolean;
  /** Only the objects whose turn it is today. */
  share: Share | null;
  /** Only this storage. */
  storage: string | null;
}

export type ShownProblem = Pick<Problem, "backupId" | "storage" | "path" | "problem">;

export interface VerifyReport {
  level: VerificationLevel;
  /** Objects that were looked at, in every storage. */
  checked: number;
  bytes: number;
  backups: number;
  /** What is still wrong. */
  problems: ShownProblem[];
  healed: ShownProblem[];
  /** Objects that no manifest names: left by killed runs, and swept by cleanup when they are old enough. */
  unknown: { storage: string; objects: number; bytes: number }[];
  durationMs: number;
}

export const VERIFY_JOB = "verify";

/** Looks at what is really stored. Every claim that a copy is good is made here, and only from its bytes. */
export const verify = (site: Site, request: VerifyRequest): Promise<VerifyReport> =>
  request.all && request.storage === null
    ? verifyRun(site, { ...request, only: null }, {})
    : verifyPart(site, request);

/** Who mistypes a name learns of it before anything is begun: that is no failed verification. */
async function verifyPart(site: Site, request: VerifyRequest): Promise<VerifyReport> {
  if (request.storage !== null) requireStorage(site, request.storage);
  const only = request.all ? null : await idOf(site, request.reference ?? "latest");
  return verifyRun(
    site,
    { ...request, only },
    { scope: "part", about: only ?? `storage ${request.storage}` },
  );
}

/** The backup that is meant, by its id. */
type Meant = VerifyRequest & { only: string | null };

const verifyRun = (
  site: Site,
  request: Meant,
  part: Pick<RunWish<VerifyReport>, "scope" | "about">,
): Promise<VerifyReport> =>
  withRun(site, VERIFY_JOB, (run) => verifyUnderLock(site, request, run), {
    judge: ({ problems }) => (problems.length === 0 ? "succeeded" : "partial"),
    ...part,
  });

async function verifyUnderLock(site: Site, request: Meant, run: RunContext): Promise<VerifyReport> {
  await run.settleKilled(onThisHost(site));
  // what is mended must not be what a cleanup takes away just then
  const release = request.heal ? await lockOnHost(site, CLEANUP_JOB) : () => undefined;
  try {
    return await lookAndMend(site, request);
  } finally {
    release();
  }
}

async function lookAndMend(site: Site, request: Meant): Promise<VerifyReport> {
  const startedMs = site.clock.monotonicMs();
  const survey = await look(site, request);
  const found = await checkObjects(site, survey, {
    level: request.level,
    isWanted: shareOf(request.share, site.clock.now()),
  });
  const wal = request.all ? await checkWal(site, survey, request) : null;
  const contents = request.level === "content" ? await checkContents(site, survey, found.problems) : [];
  const problems = await withoutRemoved(site, [
    ...survey.problems,
    ...found.problems,
    ...(wal?.problems ?? []),
    ...contents,
  ]);
  site.step("verified");
  const healed = request.heal ? await healProblems(site, survey, problems) : [];
  const left = problems.filter((problem) => !healed.includes(problem));
  await recordFindings(site, {
    survey,
    level: request.level,
    isWhole: request.share === null,
    checked: found.checked,
    problems,
    healed,
    durationMs: site.clock.monotonicMs() - startedMs,
  });
  // what was put back since is not in the listing
  if (request.all && healed.length === 0) await noteMeasures(site, survey.listed);
  return {
    level: request.level,
    checked: found.objects + (wal?.objects ?? 0),
    bytes: found.bytes + (wal?.bytes ?? 0),
    backups: survey.backups.length,
    problems: left.map(shown),
    healed: healed.map(shown),
    unknown: [...survey.unknown].flatMap(([storage, facts]) =>
      facts.length === 0 ? [] : [{ storage, objects: facts.length, bytes: sumOf(facts) }],
    ),
    durationMs: Math.round(site.clock.monotonicMs() - startedMs),
  };
}

const idOf = async (site: Site, reference: string): Promise<string> =>
  (await findBackup(site, reference)).manifest.body.backupId;

async function look(site: Site, { only, storage }: Meant): Promise<Survey> {
  const signers = await trustedSigners(site);
  const { usable, lost } = await storagesForReading(site);
  return surveyStorages(site, { usable, lost, signers, only, onlyStorage: storage });
}

const sumOf = (facts: { bytes: number }[]): number => facts.reduce((sum, { bytes }) => sum + bytes, 0);

const shown = ({ backupId, storage, path, problem }: Problem): ShownProblem => ({
  backupId,
  storage,
  path,
  problem,
});
