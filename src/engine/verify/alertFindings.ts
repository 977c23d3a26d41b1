import type { Alert, AlertType } from "../../domain/backup.js";
import { isJBackupError } from "../../domain/errors.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { manifestKey } from "../replicate.js";
import type { Site } from "../site.js";
import { lostFingerprint } from "../useStorages.js";
import { tamperedWal } from "../wal/sealedWal.js";
import { type Findings, leftOf, ofCopy } from "./findings.js";
import type { SurveyedBackup } from "./survey.js";

/** A damaged copy is one trouble, whatever of it is damaged; when no good copy is left, it is the worst there is. */
export async function alertBackup(site: Site, backup: SurveyedBackup, findings: Findings): Promise<void> {
  const { id, body, holders } = backup;
  const { label } = body;
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
  { id, body, holders }: SurveyedBackup,
  { survey }: Findings,
  bad: string[],
): Promise<void> {
  const fingerprint = `no_good_copy:${id}`;
  if (bad.length < holders.length || bad.length === 0) {
    await resolveAlert(site, fingerprint, "there is a good copy again");
    return;
  }
  const dependants = survey.backups
    .filter(({ body: other }) => other.needs.some(({ backupId }) => backupId === id))
    .map(({ body: other }) => other.label);
  const with_ = dependants.length === 0 ? "" : `; with it ${dependants.join(", ")}`;
  await raiseAlert(site, {
    type: "INTEGRITY_FAILURE",
    severity: "critical",
    fingerprint,
    message: `no storage has a good copy of ${body.label}${with_}`,
    hint: "make a new one now: jbackup backup full --fresh",
    backupId: id,
  });
}

/** WAL, and storages as a whole. */
export async function alertRest(site: Site, findings: Findings): Promise<void> {
  const left = leftOf(findings).filter(({ backupId }) => backupId === null);
  for (const { name } of findings.survey.storages) {
    const wal = left.filter(({ storage, path }) => storage === name && path !== "");
    const [first] = wal;
    const isTampered = wal.some(({ kind }) => kind === "tampered");
    const fingerprint = isTampered ? tamperedWal(name) : `bad_wal:${name}`;
    if (first === undefined)
      for (const one of [`bad_wal:${name}`, tamperedWal(name)])
        await resolveAlert(site, one, "the WAL there was read again and is right");
    else
      await raiseAlert(site, {
        ...(isTampered
          ? { type: "SECURITY", severity: "critical" }
          : { type: "INTEGRITY_FAILURE", severity: "error" }),
        fingerprint,
        message: `WAL in storage ${name}: ${first.path} ${first.problem}${wal.length > 1 ? ` (and ${wal.length - 1} more)` : ""}`,
        hint: isTampered
          ? `find out who can write to storage ${name}, then run jbackup verify --all --heal`
          : "run jbackup verify --all --heal",
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

/** A manifest under the id of a backup, in a folder that is not the backup's: nobody of us writes such a thing. */
export async function alertPlanted(site: Site, findings: Findings): Promise<void> {
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
