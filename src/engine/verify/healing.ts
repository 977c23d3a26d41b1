import { createHash } from "node:crypto";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { Storage } from "../../storage/storage.js";
import { opensHere, requireUnspoilt } from "../provedKeys.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";
import type { Problem } from "./problem.js";
import type { Survey } from "./survey.js";
import { type SurveyedBackup, wholeManifest } from "./surveyed.js";

/** The largest object that there is. */
const MOST_BYTES = 1100 * 2 ** 20;

/** Replaces what is missing or wrong by bytes that are proved right, reads them back, and answers what is mended. */
export async function healProblems(site: Site, survey: Survey, problems: Problem[]): Promise<Problem[]> {
  const healed: Problem[] = [];
  const mendable = problems.filter(({ path, kind }) => path !== "" && kind !== "unreadable");
  // a manifest comes last: only then is the copy there again
  const order = mendable.toSorted((a, b) => Number(isManifest(a)) - Number(isManifest(b)));
  for (const [done, problem] of order.entries()) {
    site.signal.throwIfAborted();
    const target = survey.storages.find(({ name }) => name === problem.storage);
    if (target === undefined) continue;
    try {
      if (isManifest(problem) && isStillBroken(problem, mendable, healed)) continue;
      const right = await rightBytes(site, survey, problems, problem);
      if (right === null) continue;
      await replace(site, target, problem.path, right);
      site.step("healed-object");
      healed.push(problem);
      site.report.info(`storage ${target.name}: ${problem.path} is mended`);
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError)) throw error;
      site.report.warn(`storage ${problem.storage}: ${problem.path} could not be mended: ${reasonOf(error)}`);
    }
    site.report.progress({ task: "mending copies", done: done + 1, total: order.length, unit: "objects" });
  }
  site.report.progressEnd();
  return healed;
}

/** A manifest says that the whole copy is there. */
const isStillBroken = (
  { backupId, storage, path }: Problem,
  mendable: Problem[],
  healed: Problem[],
): boolean =>
  mendable.some(
    (other) =>
      other.backupId === backupId &&
      other.storage === storage &&
      other.path !== path &&
      !isManifest(other) &&
      !healed.includes(other),
  );

const isManifest = ({ path }: Problem): boolean => path.endsWith("/manifest.json");

/** From any other storage, if its bytes have the digest that the signed manifest (or the seal, for WAL) demands. */
async function rightBytes(
  site: Site,
  survey: Survey,
  problems: Problem[],
  problem: Problem,
): Promise<Buffer | null> {
  const { path, backupId, storage, sha256 } = problem;
  const backup = survey.backups.find(({ id }) => id === backupId);
  if (backup !== undefined && path === manifestKey(backup.folder))
    return provedManifest(site, survey, backup, problem);
  // WAL that nothing here proved: a copy of it may be anybody's, and it is neither spread nor overwritten
  if (sha256 === null) return null;
  const isBadIn = (name: string): boolean =>
    problems.some((other) => other.path === path && other.storage === name);
  for (const source of survey.storages) {
    if (source.name === storage || isBadIn(source.name)) continue;
    try {
      const bytes = await site.storage.readAll(source, path, { maxBytes: MOST_BYTES });
      if (digest(bytes) === sha256) return bytes;
    } catch (error) {
      site.signal.throwIfAborted();
      if (!(error instanceof JBackupError)) throw error;
      site.report.warn(`storage ${source.name} cannot give ${path}: ${reasonOf(error)}`);
    }
  }
  return null;
}

/** One with wrong keys would take the last chance to open the backup from every storage. */
async function provedManifest(
  site: Site,
  survey: Survey,
  backup: SurveyedBackup,
  problem: Problem,
): Promise<Buffer | null> {
  if (backup.keys === null) return null;
  const { manifest, bytes } = await wholeManifest(site, survey, backup);
  await requireUnspoilt(site, manifest);
  // what is overwritten may hold the only right keys
  if (manifest.keysAre === "signed" || problem.kind === "missing") return bytes;
  return (await opensHere(site, manifest)) === "yes" ? bytes : null;
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function replace(site: Site, target: Storage, path: string, right: Buffer): Promise<void> {
  await site.storage.claimSite(target, {
    site: site.config.site,
    createdAt: site.clock.now().toISOString(),
  });
  await target.put(path, site.storage.bytesBody([right]), { replace: true, signal: site.signal });
  const back = await site.storage.readAll(target, path, { maxBytes: MOST_BYTES });
  if (digest(back) !== digest(right))
    throw new JBackupError(
      "storage_unavailable",
      `${target.name} gives back something else than was put there`,
    );
}
