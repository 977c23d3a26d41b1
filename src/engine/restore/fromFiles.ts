import { JBackupError } from "../../domain/errors.js";
import { parseTarget } from "../../domain/recoveryTarget.js";
import { planRestore as plan, type RestorePlan, type RestoreRequest } from "../../domain/restorePlan.js";
import type { LogicalDump } from "../../postgres/postgres.js";
import { dumpFacts } from "../backup/dumpFacts.js";
import { openChain } from "../files/chain.js";
import type { FoundBackup } from "../findBackup.js";
import { newerTexts } from "../passedOver.js";
import { momentText, planWal } from "../recovery/planWal.js";
import { binDirectoryFor } from "../recovery/serverFor.js";
import { type ScratchWish, withScratchCluster } from "../scratch.js";
import type { Site } from "../site.js";
import { restoreDump } from "./fromDump.js";
import { type Outcome, type Planned, requireTables, type Target } from "./outcome.js";

/** A physical backup is brought up on a server of our own first, at its end or at a later moment, and dumped from there. */
export async function planFromFiles(
  site: Site,
  request: RestoreRequest,
  found: FoundBackup,
  target: Target,
): Promise<Planned> {
  const { body } = found.manifest;
  const chain = await openChain(site, found);
  await requireTables(request, target, chain.census?.tables ?? []);
  const moment = request.to === null ? null : parseTarget(request.to, request.timeline);
  const wal = moment === null ? null : await planWal(site, chain.facts, moment);
  const wish: ScratchWish = {
    chain,
    binDirectory: await binDirectoryFor(site, chain.facts),
    recovery: moment === null || wal === null ? null : { target: moment, wal, ending: "promoted" },
  };
  const planned = plan(request, {
    backup: {
      id: body.backupId,
      label: body.label,
      createdAt: body.createdAt,
      database: target.postgres.database,
      tables: null,
      rows: null,
      rawBytes: chain.facts.bytes,
    },
    moment: moment === null ? "the end of the backup" : momentText(moment, wal),
    timeline: wal?.timeline ?? null,
    target: target.name,
    targetExists: target.exists,
    storages: found.storages.map(({ name }) => name),
    warnings: [...newerTexts(found), ...body.warnings, ...(wal?.warnings ?? [])],
  });
  return {
    plan: planned,
    targetTime: moment?.kind === "time" ? moment.at.toISOString() : null,
    carryOut: () =>
      withScratchCluster(site, wish, async (scratch) => {
        const server = await scratch.open(target.postgres.database);
        const dump = await openDump(server.openDump, target.postgres.database, planned);
        try {
          const outcome = await restoreFrom(site, request, planned, target, dump);
          outcome.warnings.push(...(wal?.warnings ?? []));
          return outcome;
        } finally {
          await dump.close();
        }
      }),
  };
}

async function openDump(
  open: () => Promise<LogicalDump>,
  database: string,
  { label }: RestorePlan,
): Promise<LogicalDump> {
  try {
    return await open();
  } catch (error) {
    if (!(error instanceof JBackupError) || error.code !== "database_missing") throw error;
    throw new JBackupError("database_missing", `there is no database "${database}" in ${label}`, {
      cause: error,
      hint: "restore the whole cluster with --into-dir and look for it there",
    });
  }
}

async function restoreFrom(
  site: Site,
  request: RestoreRequest,
  planned: RestorePlan,
  target: Target,
  dump: LogicalDump,
): Promise<Outcome> {
  const globals: Buffer[] = [];
  for await (const chunk of dump.globals()) globals.push(chunk);
  let counting: ReturnType<LogicalDump["rowCounts"]> | undefined;
  async function* archive(): AsyncGenerator<Buffer> {
    let done = 0;
    for await (const chunk of dump.archive()) {
      // counted in the snapshot of the dump, which is there from its first byte on
      if (counting === undefined) {
        counting = dump.rowCounts(() => undefined);
        counting.catch(() => undefined); // awaited below
      }
      done += chunk.length;
      site.report.progress({ task: `dumping ${dump.database.name}`, done, total: null, unit: "bytes" });
      yield chunk;
    }
  }
  return restoreDump(site, request, planned, target, {
    facts: dumpFacts(dump),
    globals: Buffer.concat(globals).toString("utf8"),
    archive,
    rows: async () => {
      if (counting === undefined) throw new JBackupError("tool_failed", "pg_dump wrote nothing");
      return counting;
    },
  });
}
