import type { Restore } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import { parseTarget } from "../domain/recoveryTarget.js";
import type { RestorePlan, RestoreRequest } from "../domain/restorePlan.js";
import type { Postgres, Session } from "../postgres/postgres.js";
import { chooseBase, isPhysical } from "./bases.js";
import { type FoundBackup, findBackup } from "./findBackup.js";
import { lockOnServer } from "./lock.js";
import { planFromDump } from "./restore/fromDump.js";
import { planFromFiles } from "./restore/fromFiles.js";
import { restoringSite } from "./restore/load.js";
import type { Planned, Target } from "./restore/outcome.js";
import { JOB, recorded } from "./restore/record.js";
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

/** Brings a backup back as a database of a running server. Until the last step the target is as it was; after it, all of it is there. */
export async function restore(
  site: Site,
  request: RestoreRequest,
  confirm: (plan: RestorePlan) => Promise<void>,
): Promise<Restore> {
  const postgres = await site.postgres();
  const admin = await postgres.admin();
  try {
    const planned = await prepare(site, request, postgres, admin);
    await confirm(planned.plan);
    return await withRun(site, JOB, async (run) => {
      await lockOnServer(site, admin, JOB);
      await run.settleKilled();
      site.signal.throwIfAborted();
      await sweepBefore(site, postgres, admin, planned.plan.target);
      return recorded(
        site,
        run,
        {
          plan: planned.plan,
          mode: planned.plan.mode,
          reason: request.reason,
          targetTime: planned.targetTime,
        },
        () => planned.carryOut(),
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
): Promise<Planned> {
  const found = await backupFor(site, request);
  const { body } = found.manifest;
  if (body.kind !== "full")
    throw new JBackupError("usage", `${body.label} is no full backup`, {
      hint:
        body.kind === "config"
          ? "add --config-files to bring configuration files back"
          : "choose one with jbackup list --kind full",
    });
  const name = request.intoDatabase ?? postgres.database;
  const exists = await postgres.restoring.exists(admin, name);
  refuseTarget(request, name, exists, postgres.database);
  const target: Target = { name, exists, postgres, admin };
  return isPhysical(body)
    ? planFromFiles(site, request, found, target)
    : planFromDump(site, request, found, target);
}

/** A moment is reached from the files of a physical backup only. */
const backupFor = (site: Site, request: RestoreRequest): Promise<FoundBackup> =>
  request.to === null
    ? findBackup(site, request.reference)
    : chooseBase(site, request.reference, parseTarget(request.to, request.timeline));

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
  for (const name of await postgres.restoring.sweep(admin, restoringSite(site)))
    site.report.info(`dropped ${name}, left half-restored by a run that was killed`);
  if (await postgres.restoring.reopen(admin, target))
    site.report.info(`opened ${target} to connections again: a killed run had closed it`);
}
