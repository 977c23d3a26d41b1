import { planRestore as plan, type RestorePlan, type RestoreRequest } from "../../domain/restorePlan.js";
import type { DumpFacts, TableRows } from "../../postgres/postgres.js";
import { openHiddenFile } from "../../sys/hiddenFile.js";
import { DUMP_NAME } from "../backup/dumpFacts.js";
import type { FoundBackup } from "../findBackup.js";
import { type OpenedBackup, openBackup } from "../openBackup.js";
import { newerTexts } from "../passedOver.js";
import type { Site } from "../site.js";
import { restoreBeside, restoreInPlace } from "./load.js";
import { type Outcome, type Planned, requireTables, type Target } from "./outcome.js";
import { requireSpace, temporaryDirectory } from "./space.js";

/** A dump, wherever it comes from: a logical backup, or a cluster that was brought up to be dumped. */
export interface Dump {
  facts: DumpFacts;
  globals: string;
  /** The archive, as it is written to a file; the rows that were counted with it are known afterwards. */
  archive(): AsyncIterable<Buffer>;
  rows(): Promise<TableRows[]>;
}

/** A logical backup holds the dump itself. */
export async function planFromDump(
  site: Site,
  request: RestoreRequest,
  found: FoundBackup,
  target: Target,
): Promise<Planned> {
  const { body } = found.manifest;
  const backup = await openBackup(site, found);
  const facts = backup.contents.detail.logical as DumpFacts;
  const recordedRows = backup.contents.detail.tables as TableRows[];
  await requireTables(request, target, recordedRows);
  const warnings = await target.postgres.restoring.checkTarget(target.admin, facts);
  const dumpBytes = backup.entry(DUMP_NAME).bytes;
  await requireSpace(site, target.admin, dumpBytes, facts.database.bytes);
  const planned = plan(request, {
    backup: {
      id: body.backupId,
      label: body.label,
      createdAt: body.createdAt,
      database: facts.database.name,
      tables: recordedRows.length,
      rows: recordedRows.reduce((sum, { rows }) => sum + rows, 0),
      rawBytes: body.rawBytes,
    },
    moment: null,
    timeline: null,
    target: target.name,
    targetExists: target.exists,
    storages: found.storages.map(({ name }) => name),
    warnings: [...newerTexts(found), ...body.warnings, ...warnings],
  });
  return {
    plan: planned,
    targetTime: null,
    carryOut: async () =>
      restoreDump(site, request, planned, target, {
        facts,
        globals: await globalsOf(backup),
        archive: () => fetched(site, backup, planned),
        rows: async () => recordedRows,
      }),
  };
}

/** From a dump to the target: beside it and swapped, in place, or merged. */
export async function restoreDump(
  site: Site,
  request: RestoreRequest,
  planned: RestorePlan,
  { postgres, admin }: Target,
  dump: Dump,
): Promise<Outcome> {
  const { facts } = dump;
  const lost = await postgres.restoring.checkTarget(admin, facts);
  const created = await postgres.restoring.createMissingRoles(admin, facts.roles, dump.globals);
  if (created.length > 0) site.report.info(`created the missing roles ${created.join(", ")}`);
  const archive = await openHiddenFile(temporaryDirectory(site));
  try {
    await archive.write(dump.archive());
    site.report.progressEnd();
    site.step("fetched");
    const prepared = {
      request,
      plan: planned,
      facts,
      recordedRows: await dump.rows(),
      spacesMissing: lost.length > 0,
    };
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

export async function globalsOf(backup: OpenedBackup): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of backup.read(backup.entry("globals.sql"))) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

async function* fetched(site: Site, backup: OpenedBackup, { label }: RestorePlan): AsyncGenerator<Buffer> {
  const entry = backup.entry(DUMP_NAME);
  let done = 0;
  for await (const chunk of backup.read(entry)) {
    site.signal.throwIfAborted();
    done += chunk.length;
    site.report.progress({ task: `fetching ${label}`, done, total: entry.bytes, unit: "bytes" });
    yield chunk;
  }
}
