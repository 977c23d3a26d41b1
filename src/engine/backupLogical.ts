import type { Backup } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import { ratioOf } from "../domain/record.js";
import type { Archive } from "../format/format.js";
import type { LogicalDump, TableRows } from "../postgres/postgres.js";
import { DUMP_NAME, dumpFacts } from "./backup/dumpFacts.js";
import { type BackupRequest, JOB, recorded } from "./backup/record.js";
import { type Filled, type Flow, storeArchive } from "./backup/storeArchive.js";
import { withBackupRun } from "./hooks.js";
import { lockOnServer } from "./lock.js";
import type { Site } from "./site.js";
import { sealingKeys } from "./siteKeys.js";
import { storagesForWriting, sweepStorages } from "./useStorages.js";

/** pg_dump, sealed once, in all storages; it exists from the moment its manifest does. */
export async function backupLogical(site: Site, request: BackupRequest): Promise<Backup> {
  const what = { job: JOB, kind: "full", method: "logical", note: request.note } as const;
  return withBackupRun(site, JOB, "full", async (run) => {
    const keys = await sealingKeys(site);
    const storages = await storagesForWriting(site);
    const postgres = await site.postgres();
    const admin = await postgres.admin();
    try {
      await lockOnServer(site, admin, JOB);
      await run.settleKilled();
      await sweepStorages(site, storages.usable);
      return await recorded(site, run, what, async (draft) => {
        const dump = await postgres.openDump();
        site.step("snapshot-taken");
        try {
          return await storeArchive(site, draft, keys, storages, {
            expectedBytes: dump.database.bytes,
            fill: (archive, flow) => readDump(site, dump, archive, flow),
          });
        } finally {
          await dump.close();
        }
      });
    } finally {
      await admin.close();
    }
  });
}

/** One pass: the archive streams out while the rows of the same snapshot are counted beside it. */
async function readDump(site: Site, dump: LogicalDump, archive: Archive, flow: Flow): Promise<Filled> {
  await archive.addEntry("globals.sql", dump.globals());
  let counting: Promise<TableRows[]> | undefined;
  const count = (): void => {
    counting = dump.rowCounts(() => undefined);
    counting.catch(() => undefined); // awaited below, once the dump is through
  };
  const entry = await archive.addEntry(DUMP_NAME, watched(site, dump, flow, count));
  if (entry.bytes === 0 || counting === undefined)
    throw new JBackupError("tool_failed", "pg_dump wrote nothing");
  const tables = await counting;
  site.step("dumped");
  return factsOf(dump, tables);
}

async function* watched(
  site: Site,
  dump: LogicalDump,
  flow: Flow,
  onBegun: () => void,
): AsyncGenerator<Buffer> {
  let done = 0;
  let isFirst = true;
  for await (const chunk of dump.archive()) {
    done += chunk.length;
    // text is often larger or smaller than the tables it comes from: the total is an estimate until it is passed
    const total = done < dump.database.bytes ? dump.database.bytes : null;
    const ratio = ratioOf(done, flow.sealedBytes);
    site.report.progress({
      task: `dumping ${dump.database.name}`,
      done,
      total,
      unit: "bytes",
      ...(ratio === null ? {} : { extra: `${ratio.toFixed(1)} times smaller` }),
    });
    if (isFirst) {
      onBegun();
      site.step("dumping");
    }
    isFirst = false;
    yield chunk;
  }
}

const factsOf = (dump: LogicalDump, tables: TableRows[]): Filled => ({
  server: {
    version: dump.server.version,
    versionNum: dump.server.versionNum,
    systemId: dump.server.systemId,
  },
  timeline: null,
  startLsn: null,
  endLsn: null,
  parentId: null,
  warnings: dump.warnings,
  metadata: {
    database: dump.database.name,
    databaseBytes: dump.database.bytes,
    tables: tables.length,
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
  },
  detail: { logical: dumpFacts(dump), tables },
});
