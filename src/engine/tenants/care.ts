import type { Restore } from "../../domain/backup.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { Postgres, Session, TenantGraph } from "../../postgres/postgres.js";
import { exportTenants } from "../backupTenants.js";
import type { RunContext } from "../run.js";
import type { Site } from "../site.js";
import { listTenants } from "./choose.js";
import { tenantSettings } from "./graph.js";
import { type Evidence, writtenIn } from "./report.js";

/** The database that tenants come back into. */
export interface RestoreTarget {
  name: string;
  postgres: Postgres;
  session: Session;
  graph: TenantGraph;
}

/** The tenant as it is before anything is overwritten: whoever regrets the restore goes back to it. */
export async function safetyBackup(
  site: Site,
  run: RunContext,
  tenantId: string,
  { postgres, session, graph }: RestoreTarget,
  parentId: string,
): Promise<string | null> {
  const [there] = await listTenants(site, session, graph, [tenantId]);
  if (there === undefined) return null;
  const made = await exportTenants(
    site,
    run,
    { tenants: [tenantId], note: "before a restore", acceptShrunken: true },
    { postgres, source: { kind: "live" }, parentId },
  );
  const [backup] = made.backups;
  if (backup !== undefined) return backup.id;
  throw new JBackupError(
    "verification_failed",
    `tenant ${tenantId} could not be backed up before the restore: ${made.failed[0]?.error ?? "nobody knows why"}`,
    { hint: "nothing was changed; --no-safety-backup restores without one" },
  );
}

/** The operator's own SQL keeps the application away meanwhile, and lets it in again, also after a failure. */
export async function suspended<Result>(
  site: Site,
  { session }: RestoreTarget,
  tenantId: string,
  work: () => Promise<Result>,
): Promise<Result> {
  const { suspend, resume } = tenantSettings(site).fence;
  if (suspend !== undefined) await session.rows(suspend, suspend.includes("$1") ? [tenantId] : []);
  try {
    return await work();
  } finally {
    if (resume !== undefined) await session.rows(resume, resume.includes("$1") ? [tenantId] : []);
  }
}

/** A run that was killed behind its commit let nobody in again, ran no hooks, and recorded no end. */
export async function finishKilled(site: Site, target: RestoreTarget, restore: Restore): Promise<Restore> {
  const { tenantId, report } = restore.metadata as { tenantId: string } & Pick<Evidence, "report">;
  await suspended(site, target, tenantId, async () => undefined);
  const warnings = [
    "the run that restored it was killed behind its commit, and the next one finished it",
    ...(await runAfter(site, target)),
  ];
  const finished: Restore = {
    ...restore,
    ...writtenIn(report),
    status: "completed",
    error: null,
    warnings: [...restore.warnings, ...warnings],
  };
  await site.catalog.saveRestore(finished);
  return finished;
}

/** The rows are committed by now: a hook that fails must not make a failure of the restore, nor lose its proof. */
export async function runAfter(site: Site, { session }: RestoreTarget): Promise<string[]> {
  const failed: string[] = [];
  for (const sql of tenantSettings(site).afterRestore)
    try {
      await session.run(sql);
    } catch (error) {
      failed.push(`the tenant is restored, but "${sql}" of tenants.afterRestore failed: ${reasonOf(error)}`);
    }
  return failed;
}

/** The new tenant's id as the database writes it: another spelling of the same tenant would be cloned onto itself. */
export async function spelled<Wish extends { tenants: string[]; asTenant: string | null }>(
  site: Site,
  wish: Wish,
  { session, graph }: RestoreTarget,
): Promise<Wish> {
  if (wish.asTenant === null) return wish;
  const { idColumn } = tenantSettings(site);
  const type = graph.root.columns.find(({ name }) => name === idColumn)?.type ?? "text";
  const asTenant = await inOwnSpelling(session, wish.asTenant, type);
  if (!wish.tenants.includes(asTenant)) return { ...wish, asTenant };
  throw new JBackupError("usage", `--as-tenant ${asTenant} is the tenant itself`, {
    hint: "leave --as-tenant out to bring the tenant back in its own place",
  });
}

async function inOwnSpelling(session: Session, id: string, type: string): Promise<string> {
  try {
    const [row] = await session.rows<{ id: string }>(`select $1::${type}::text as id`, [id]);
    return row?.id ?? id;
  } catch (error) {
    const state = ((error as Error).cause as { code?: string } | undefined)?.code ?? "";
    if (!state.startsWith("22")) throw error; // anything but a value that the type does not have
    throw new JBackupError(
      "usage",
      `--as-tenant "${id}" is no id that a tenant can have: it must be ${type}`,
      {
        hint: "give the id of the new tenant",
        cause: error,
      },
    );
  }
}
