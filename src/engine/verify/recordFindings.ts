import type { Backup, Copy } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { raiseAlert } from "../alert.js";
import { settleRebuiltCopies } from "../rebuiltCopies.js";
import type { Site } from "../site.js";
import { alertBackup, alertPlanted, alertRest } from "./alertFindings.js";
import { type Findings, isOf, leftOf } from "./findings.js";
import { copyOf } from "./objects.js";
import type { Problem } from "./problem.js";
import type { SurveyedBackup } from "./survey.js";

export type { Findings } from "./findings.js";

/** Evidence into the catalog, statuses from evidence alone, alerts for what is wrong and no more for what is right again. */
export async function recordFindings(site: Site, findings: Findings): Promise<void> {
  const at = site.clock.now().toISOString();
  for (const backup of findings.survey.backups) {
    const record = await currentRecord(site, backup);
    if (record === null) continue;
    const copies = record.copies.map((copy) => judged(copy, backup, findings, at));
    await site.catalog.saveBackups([{ ...record, copies, status: statusOf(record, copies, findings) }]);
    for (const { storage } of copies) await recordCopy(site, backup, storage, findings, at);
    await alertBackup(site, backup, findings);
  }
  await recordWithoutManifest(site, findings);
  await alertPlanted(site, findings);
  await alertRest(site, findings);
  await settleRebuiltCopies(site);
}

/** Backups of which no storage has a manifest that can be believed: nothing of them can be restored. */
async function recordWithoutManifest(site: Site, findings: Findings): Promise<void> {
  const read = new Set(findings.survey.backups.map(({ id }) => id));
  const lost = new Set(leftOf(findings).flatMap(({ backupId }) => backupId ?? []));
  for (const id of lost) {
    if (read.has(id)) continue;
    const problems = leftOf(findings).filter(({ backupId }) => backupId === id);
    const [record] = await site.catalog.backups({ reference: id, limit: 1 }).catch((error: unknown) => {
      if (isJBackupError(error, "catalog_unavailable")) return []; // said when the storages were surveyed
      throw error;
    });
    const label = record?.label ?? id;
    if (record !== undefined) {
      const copies = record.copies.map((copy): Copy => {
        const problem = problems.find(({ storage }) => storage === copy.storage);
        if (problem === undefined || problem.kind === "unreadable") return copy;
        return { ...copy, status: problem.kind === "missing" ? "missing" : "damaged" };
      });
      await site.catalog.saveBackups([{ ...record, copies, status: "completed" }]);
    }
    const isTampered = problems.some(({ kind }) => kind === "tampered");
    await raiseAlert(site, {
      type: isTampered ? "SECURITY" : "INTEGRITY_FAILURE",
      severity: "critical",
      fingerprint: `no_good_copy:${id}`,
      message: `no storage has a manifest of backup ${label} that can be believed: ${problems[0]?.storage}: it ${problems[0]?.problem}`,
      hint: "make a new backup now: jbackup backup full --fresh",
      backupId: id,
    });
  }
}

async function currentRecord(site: Site, { id }: SurveyedBackup): Promise<Backup | null> {
  try {
    return (await site.catalog.backups({ reference: id, limit: 1 }))[0] ?? null;
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return null; // said when the storages were surveyed
    throw error;
  }
}

/** Also what is wrong with older backups' objects that it is made of. */
function touching(problems: Problem[], backup: SurveyedBackup, storage: string): Problem[] {
  const here = problems.filter((one) => one.storage === storage);
  if (here.length === 0) return [];
  const needed = new Set(
    backup.body.needs.flatMap(({ folder, objects }) => objects.map(({ name }) => `${folder}/${name}`)),
  );
  return here.filter((one) => isOf(one, backup) || needed.has(one.path));
}

function judged(copy: Copy, backup: SurveyedBackup, findings: Findings, at: string): Copy {
  const { body, holders } = backup;
  const { survey, isWhole } = findings;
  const wasLooked = survey.storages.some(({ name }) => name === copy.storage);
  if (!wasLooked || copy.status === "removed" || !holders.includes(copy.storage)) return copy;
  const left = touching(leftOf(findings), backup, copy.storage);
  if (left.some(({ kind }) => kind === "damaged" || kind === "tampered"))
    return { ...copy, status: "damaged" };
  if (left.some(({ kind }) => kind === "missing")) return { ...copy, status: "missing" };
  if (left.length > 0) return copy; // unreadable: nothing is known
  if (!isWhole) return copy;
  return { ...copy, status: "stored", bytes: body.storedBytes, verifiedAt: at };
}

/** Verified: every copy that should be there was read, and is right. */
function statusOf(record: Backup, copies: Copy[], { isWhole, survey }: Findings): Backup["status"] {
  const meant = copies.filter(({ status }) => status !== "removed");
  if (meant.some(({ status }) => status !== "stored")) return "completed";
  const looked = survey.storages.map(({ name }) => name);
  const isProved = isWhole && meant.length > 0 && meant.every(({ storage }) => looked.includes(storage));
  return isProved ? "verified" : record.status;
}

async function recordCopy(
  site: Site,
  backup: SurveyedBackup,
  storage: string,
  findings: Findings,
  at: string,
): Promise<void> {
  if (!findings.survey.storages.some(({ name }) => name === storage)) return;
  const { id, folder } = backup;
  const problems = touching(findings.problems, backup, storage);
  const read = findings.checked.get(copyOf(id, storage));
  const healed = touching(findings.healed, backup, storage);
  await site.catalog.saveVerification({
    id: site.newId(),
    backupId: id,
    storage,
    level: findings.level,
    status: problems.length === healed.length ? "passed" : "failed",
    checkedAt: at,
    durationMs: Math.round(findings.durationMs),
    problems: problems.map(({ path, problem }) => `${path.replace(`${folder}/`, "")} ${problem}`),
    metadata: {
      objects: read?.objects ?? 0,
      bytes: read?.bytes ?? 0,
      isWhole: findings.isWhole,
      healed: healed.length,
    },
  });
}
