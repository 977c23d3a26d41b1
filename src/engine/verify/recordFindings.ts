import type { Alert, AlertType, Backup, Copy, VerificationLevel } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";
import { lostFingerprint } from "../useStorages.js";
import type { CheckedCopy } from "./objects.js";
import type { Problem } from "./problem.js";
import type { Survey, SurveyedBackup } from "./survey.js";

export interface Findings {
  survey: Survey;
  level: VerificationLevel;
  /** Everything was read, not only the share of a day: then a copy without a finding is a good one. */
  isWhole: boolean;
  checked: CheckedCopy[];
  problems: Problem[];
  healed: Problem[];
  durationMs: number;
}

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

/** A manifest under the id of a backup, in a folder that is not the backup's: nobody of us writes such a thing. */
async function alertPlanted(site: Site, findings: Findings): Promise<void> {
  const { backups, storages } = findings.survey;
  const ids = new Set(backups.map(({ id }) => id));
  const own = new Set(backups.map(({ folder }) => manifestKey(folder)));
  for (const { name } of storages) {
    const planted = leftOf(findings).find(
      ({ backupId, storage, path }) =>
        storage === name && ids.has(backupId ?? "") && path.endsWith("/manifest.json") && !own.has(path),
    );
    const fingerprint = `planted:${name}`;
    if (planted === undefined) {
      if (findings.isWhole) await resolveAlert(site, fingerprint, "no such manifest is there any more");
      continue;
    }
    await raiseAlert(site, {
      type: "SECURITY",
      severity: "critical",
      fingerprint,
      message: `storage ${name} holds ${planted.path}, which ${planted.problem}`,
      hint: `find out who can write to storage ${name}, then remove that file; jbackup verify --all tells when nothing is left`,
      storage: name,
    });
  }
  await resolveGone(site, findings);
}

/** Alerts about backups of which neither a storage nor the catalog knows anything any more. */
async function resolveGone(site: Site, findings: Findings): Promise<void> {
  if (!findings.isWhole || findings.survey.backups.length < 2) return;
  const seen = new Set([
    ...findings.survey.backups.map(({ id }) => id),
    ...findings.problems.flatMap(({ backupId }) => backupId ?? []),
  ]);
  for (const type of ["SECURITY", "INTEGRITY_FAILURE"] as const)
    for (const { fingerprint } of await openAlertsOf(site, type)) {
      const id = /^(?:no_good_copy|manifest:[^:]+):([0-9a-f-]{36})$/.exec(fingerprint)?.[1];
      if (id !== undefined && !seen.has(id))
        await resolveAlert(site, fingerprint, "nothing under that id is stored any more");
    }
}

const openAlertsOf = (site: Site, type: AlertType): Promise<Alert[]> =>
  site.catalog.alerts({ type, status: ["active", "acknowledged"] }).catch((error: unknown) => {
    if (isJBackupError(error, "catalog_unavailable")) return []; // said when the storages were surveyed
    throw error;
  });

async function currentRecord(site: Site, { id }: SurveyedBackup): Promise<Backup | null> {
  try {
    return (await site.catalog.backups({ reference: id, limit: 1 }))[0] ?? null;
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return null; // said when the storages were surveyed
    throw error;
  }
}

/** In its own folder: what somebody put elsewhere under its id says nothing of it. */
const isOf = ({ backupId, path }: Problem, { id, folder }: SurveyedBackup): boolean =>
  backupId === id && path.startsWith(`${folder}/`);

const ofCopy = (problems: Problem[], backup: SurveyedBackup, storage: string): Problem[] =>
  problems.filter((one) => one.storage === storage && isOf(one, backup));

/** Also what is wrong with older backups' objects that it is made of. */
function touching(problems: Problem[], backup: SurveyedBackup, storage: string): Problem[] {
  const here = problems.filter((one) => one.storage === storage);
  if (here.length === 0) return [];
  const needed = new Set(
    (backup.manifest.body.needs ?? []).flatMap(({ folder, objects }) =>
      objects.map(({ name }) => `${folder}/${name}`),
    ),
  );
  return here.filter((one) => isOf(one, backup) || needed.has(one.path));
}

const leftOf = ({ problems, healed }: Findings): Problem[] =>
  problems.filter((problem) => !healed.includes(problem));

function judged(copy: Copy, backup: SurveyedBackup, findings: Findings, at: string): Copy {
  const { manifest, holders } = backup;
  const { survey, isWhole } = findings;
  const wasLooked = survey.storages.some(({ name }) => name === copy.storage);
  if (!wasLooked || copy.status === "removed" || !holders.includes(copy.storage)) return copy;
  const left = touching(leftOf(findings), backup, copy.storage);
  if (left.some(({ kind }) => kind === "damaged" || kind === "tampered"))
    return { ...copy, status: "damaged" };
  if (left.some(({ kind }) => kind === "missing")) return { ...copy, status: "missing" };
  if (left.length > 0) return copy; // unreadable: nothing is known
  if (!isWhole) return copy;
  return { ...copy, status: "stored", bytes: manifest.body.storedBytes, verifiedAt: at };
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
  const read = findings.checked.find((one) => one.backupId === id && one.storage === storage);
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

/** A damaged copy is one trouble, whatever of it is damaged; when no good copy is left, it is the worst there is. */
async function alertBackup(site: Site, backup: SurveyedBackup, findings: Findings): Promise<void> {
  const { id, manifest, holders } = backup;
  const { label } = manifest.body;
  const left = leftOf(findings);
  const looked = findings.survey.storages.map(({ name }) => name).filter((name) => holders.includes(name));
  const bad = looked.filter((name) => ofCopy(left, backup, name).length > 0);
  for (const storage of looked) {
    const problems = ofCopy(left, backup, storage);
    const [first] = problems;
    const fingerprint = `bad_copy:${storage}:${id}`;
    if (first === undefined) {
      if (!findings.isWhole) continue;
      await resolveAlert(site, fingerprint, "the copy was read again and is right");
      await resolveAlert(site, `manifest:${storage}:${id}`, "the manifest was read again and is right");
      continue;
    }
    const isTampered = problems.some(({ kind }) => kind === "tampered");
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
    await raiseAlert(site, {
      type: isTampered ? "SECURITY" : "INTEGRITY_FAILURE",
      severity: isTampered || bad.length === holders.length ? "critical" : "error",
      fingerprint: isTampered ? `manifest:${storage}:${id}` : fingerprint,
      message: `backup ${label} in storage ${storage}: ${first.path} ${first.problem}${more}`,
      hint: isTampered
        ? `find out who can write to storage ${storage}, then run jbackup verify ${label} --heal`
        : `run jbackup verify ${label} --heal: it is replaced from a good copy`,
      backupId: id,
      storage,
    });
  }
  await alertLost(site, backup, findings, bad);
}

async function alertLost(
  site: Site,
  { id, manifest, holders }: SurveyedBackup,
  { survey }: Findings,
  bad: string[],
): Promise<void> {
  const fingerprint = `no_good_copy:${id}`;
  if (bad.length < holders.length || bad.length === 0) {
    await resolveAlert(site, fingerprint, "there is a good copy again");
    return;
  }
  const dependants = survey.backups
    .filter(({ manifest: other }) => other.body.needs?.some(({ backupId }) => backupId === id))
    .map(({ manifest: other }) => other.body.label);
  const with_ = dependants.length === 0 ? "" : `; with it ${dependants.join(", ")}`;
  await raiseAlert(site, {
    type: "INTEGRITY_FAILURE",
    severity: "critical",
    fingerprint,
    message: `no storage has a good copy of ${manifest.body.label}${with_}`,
    hint: "make a new one now: jbackup backup full --fresh",
    backupId: id,
  });
}

/** WAL, and storages as a whole. */
async function alertRest(site: Site, findings: Findings): Promise<void> {
  const left = leftOf(findings).filter(({ backupId }) => backupId === null);
  for (const { name } of findings.survey.storages) {
    const wal = left.filter(({ storage, path }) => storage === name && path !== "");
    const [first] = wal;
    const fingerprint = `bad_wal:${name}`;
    if (first === undefined)
      await resolveAlert(site, fingerprint, "the WAL there was read again and is right");
    else
      await raiseAlert(site, {
        type: "INTEGRITY_FAILURE",
        severity: "error",
        fingerprint,
        message: `WAL in storage ${name}: ${first.path} ${first.problem}${wal.length > 1 ? ` (and ${wal.length - 1} more)` : ""}`,
        hint: "run jbackup verify --all --heal",
        storage: name,
      });
    if (!left.some(({ storage, path }) => storage === name && path === ""))
      await resolveAlert(site, `unreadable:${name}`, `storage ${name} can be read again`);
    const isComplete = findings.isWhole && findings.survey.backups.length > 1;
    if (isComplete && !leftOf(findings).some(({ storage, kind }) => storage === name && kind === "missing"))
      await resolveAlert(site, lostFingerprint(name), `storage ${name} has every copy again`);
  }
  for (const { storage, problem } of left.filter(({ path }) => path === ""))
    await raiseAlert(site, {
      type: "INTEGRITY_FAILURE",
      severity: "error",
      fingerprint: `unreadable:${storage}`,
      message: `storage ${storage}: ${problem}`,
      hint: "jbackup storages check shows what is wrong with it",
      storage,
    });
}
