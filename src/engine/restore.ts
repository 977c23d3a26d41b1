import type { Restore } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import { planRestore as plan, type RestorePlan, type RestoreRequest } from "../domain/restorePlan.js";
import type { DumpFacts, Postgres, Session, TableRows } from "../postgres/postgres.js";
import { openHiddenFile } from "../sys/hiddenFile.js";
import { findBackup } from "./findBackup.js";
import { lockOnServer } from "./lock.js";
import { type OpenedBackup, openBackup } from "./openBackup.js";
import { restoreBeside, restoreInPlace } from "./restore/load.js";
import type { Outcome, Prepared } from "./restore/outcome.js";
import { JOB, recorded } from "./restore/record.js";
import { requireSpace, temporaryDirectory } from "./restore/space.js";
import { withRun } from "./run.js";
import type { Site } from "./site.js";

export type { RestorePlan, RestoreRequest } from "../domain/restorePlan.js";

/** What a restore would do, checked as far as it can be without changing anything. */
export async function planRestore(site: Site, request: RestoreRequest): Promise<RestorePlan> {
  const postgres = await site.postgres();
  const admin = await postgres.admin();
  try {
    return (await prepare(site, request, postgres, admin)).plan;
  } finally {
    await admin.close();
  }
}

/** Brings a logical backup back. Until the last step the target is as it was; after it, all of it is there. */
export async function restore(
  site: Site,
  request: RestoreRequest,
  confirm: (plan: RestorePlan) => Promise<void>,
): Promise<Restore> {
  const postgres = await site.postgres();
  const admin = await postgres.admin();
  try {
    const prepared = await prepare(site, request, postgres, admin);
    await confirm(prepared.plan);
    return await withRun(site, JOB, async (run) => {
      await lockOnServer(site, admin, JOB);
      await run.settleKilled();
      site.signal.throwIfAborted();
      await sweepBefore(site, postgres, admin, prepared.plan.target);
      return recorded(
        site,
        run,
        { plan: prepared.plan, mode: request.mode, reason: request.reason, targetTime: null },
        () => carryOut(site, prepared, postgres, admin),
      );
    });
  } finally {
    await admin.close();
  }
}

async function prepare(
  site: Site,
  request: RestoreRequest,
  postgres: Postgres,
  admin: Session,
): Promise<Prepared> {
  const found = await findBackup(site, request.reference);
  const { body } = found.manifest;
  if (body.kind !== "full" || body.method !== "logical") {
    throw new JBackupError("usage", `${body.label} is no logical full backup`, {
      hint: "choose one with jbackup list --kind full",
    });
  }
  const backup = await openBackup(site, found);
  const facts = backup.contents.detail.logical as DumpFacts;
  const recordedRows = backup.contents.detail.tables as TableRows[];
  const target = request.intoDatabase ?? postgres.database;
  const targetExists = await postgres.restoring.exists(admin, target);
  refuseTarget(request, target, targetExists, postgres.database);
  const warnings = await postgres.restoring.checkTarget(admin, facts);
  await requireSpace(site, admin, backup.entry("database.pgdump").bytes, facts.database.bytes);
  return {
    request,
    backup,
    facts,
    recordedRows,
    spacesMissing: warnings.length > 0,
    plan: plan(request, {
      backup: {
        id: body.backupId,
        label: body.label,
        createdAt: body.createdAt,
        database: facts.database.name,
        tables: recordedRows.length,
        rows: recordedRows.reduce((sum, { rows }) => sum + rows, 0),
        rawBytes: body.rawBytes,
      },
      target,
      targetExists,
      storages: found.storages.map(({ name }) => name),
      warnings: [...body.warnings, ...warnings],
    }),
  };
}

const LONGEST_NAME = 63;

function refuseTarget(request: RestoreRequest, target: string, exists: boolean, live: string): void {
  if (["postgres", "template0", "template1"].includes(target))
    throw new JBackupError("target_refused", `${target} is a maintenance database`, {
      hint: "name another database with --into-db",
    });
  if (target === "")
    throw new JBackupError("usage", "the name in --into-db is empty", {
      hint: "give --into-db a name, or leave it out to restore the configured database",
    });
  if (Buffer.byteLength(target) > LONGEST_NAME)
    throw new JBackupError(
      "usage",
      `the name "${target}" is longer than the ${LONGEST_NAME} bytes that PostgreSQL keeps of a name`,
      { hint: "give a shorter name with --into-db" },
    );
  if ((request.mode === "merge" || request.inPlace) && !exists)
    throw new JBackupError("database_missing", `there is no database "${target}" to restore into`, {
      hint: "leave out --mode merge and --in-place: a full restore makes the database",
    });
  if (
    request.mode === "full" &&
    !request.inPlace &&
    request.intoDatabase !== null &&
    exists &&
    target !== live
  )
    throw new JBackupError("target_refused", `the database "${target}" exists already`, {
      hint: "name a new database with --into-db, or drop that one first",
    });
  if (request.tables.length > 0 && request.mode !== "merge")
    throw new JBackupError("usage", "--tables works with --mode merge only", {
      hint: "restore everything with --into-db NAME, or merge some tables with --mode merge --tables ...",
    });
}

/** What a killed restore left behind goes first. */
async function sweepBefore(site: Site, postgres: Postgres, admin: Session, target: string): Promise<void> {
  for (const name of await postgres.restoring.sweep(admin))
    site.report.info(`dropped ${name}, left half-restored by a run that was killed`);
  if (await postgres.restoring.reopen(admin, target))
    site.report.info(`opened ${target} to connections again: a killed run had closed it`);
}

async function carryOut(
  site: Site,
  prepared: Prepared,
  postgres: Postgres,
  admin: Session,
): Promise<Outcome> {
  const { plan: planned, facts, backup } = prepared;
  const created = await postgres.restoring.createMissingRoles(admin, facts.roles, await globalsOf(backup));
  if (created.length > 0) site.report.info(`created the missing roles ${created.join(", ")}`);
  const archive = await openHiddenFile(temporaryDirectory(site));
  try {
    await archive.write(fetched(site, prepared));
    site.report.progressEnd();
    site.step("fetched");
    const outcome =
      planned.way === "in-place"
        ? await restoreInPlace(site, prepared, postgres, archive.path)
        : await restoreBeside(site, prepared, postgres, admin, archive.path);
    if (created.length > 0) outcome.warnings.push(`created the missing roles ${created.join(", ")}`);
    return outcome;
  } finally {
    await archive.close();
  }
}

async function globalsOf(backup: OpenedBackup): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of backup.read(backup.entry("globals.sql"))) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

async function* fetched(site: Site, { backup, plan: planned }: Prepared): AsyncGenerator<Buffer> {
  const entry = backup.entry("database.pgdump");
  let done = 0;
  for await (const chunk of backup.read(entry)) {
    site.signal.throwIfAborted();
    done += chunk.length;
    site.report.progress({ task: `fetching ${planned.label}`, done, total: entry.bytes, unit: "bytes" });
    yield chunk;
  }
}
