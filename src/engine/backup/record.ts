import type { Backup } from "../../domain/backup.js";
import { isJBackupError, reasonOf } from "../../domain/errors.js";
import { labelOf } from "../../domain/reference.js";
import { resolveAlert } from "../alert.js";
import { watchBackup } from "../alerts/watch.js";
import { healMissing } from "../heal.js";
import type { RunContext } from "../run.js";
import type { Site } from "../site.js";
import { tellFailure } from "./tellFailure.js";

/** Logical and physical backups share a lock: they write to the same places. */
export const JOB = "backup-full";

export interface BackupRequest {
  note: string | null;
}

export interface Recorded extends BackupRequest {
  job: string;
  kind: Backup["kind"];
  method: Backup["method"];
}

/** The backup's record says what happened, however it ends. */
export async function recorded(
  site: Site,
  run: RunContext,
  what: Recorded,
  work: (draft: Backup) => Promise<Backup>,
): Promise<Backup> {
  const { job } = what;
  const draft = draftOf(site, run, what);
  await site.catalog.saveBackups([draft]);
  site.step("recorded");
  try {
    const done = await work(draft);
    await site.catalog.saveBackups([done]);
    site.step("catalogued");
    await compareWithUsual(site, done);
    await resolveAlert(site, `failed:${job}`, `backup ${done.label} succeeded`);
    await resolveAlert(site, `interrupted:${job}`, `backup ${done.label} succeeded`);
    const behind = Array.isArray(done.metadata.behind) ? done.metadata.behind : [];
    const away = done.copies
      .filter(({ storage, status }) => status === "missing" && !behind.includes(storage))
      .map(({ storage }) => storage);
    await healMissing(site, away, what.kind === "config" ? "config" : "full");
    return behind.length === 0 ? done : await afterHealing(site, done);
  } catch (error) {
    const finishedAt = site.clock.now().toISOString();
    const status = site.signal.aborted ? "interrupted" : "failed";
    await site.catalog.saveBackups([
      { ...draft, status, finishedAt, metadata: { ...draft.metadata, error: reasonOf(error) } },
    ]);
    const message = `backup ${draft.label} failed: ${reasonOf(error)}`;
    await tellFailure(site, job, error, { message, backupId: draft.id });
    throw error;
  }
}

async function afterHealing(site: Site, done: Backup): Promise<Backup> {
  try {
    return (await site.catalog.backups({ reference: done.id, limit: 1 }))[0] ?? done;
  } catch (error) {
    if (isJBackupError(error, "catalog_unavailable")) return done;
    throw error;
  }
}

/** An alert never makes a backup fail: this one is stored already. */
async function compareWithUsual(site: Site, done: Backup): Promise<void> {
  try {
    await watchBackup(site, done);
  } catch (error) {
    if (!isJBackupError(error, "catalog_unavailable")) throw error;
  }
}

export function draftOf(
  site: Site,
  run: RunContext,
  { kind, method, note }: Pick<Recorded, "kind" | "method" | "note">,
  tenantId: string | null = null,
): Backup {
  const now = site.clock.now(); // a run may begin more than one
  return {
    id: site.newId(),
    label: labelOf(kind, now, tenantId),
    kind,
    method,
    tenantId,
    status: "in_progress",
    createdAt: now.toISOString(),
    finishedAt: null,
    durationMs: null,
    rawBytes: 0,
    storedBytes: 0,
    compressionRatio: null,
    checksum: null,
    parentId: null,
    copies: [],
    note,
    createdBy: run.by,
    jobId: run.id,
    warnings: [],
    metadata: {},
  };
}
