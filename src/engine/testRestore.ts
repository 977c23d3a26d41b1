import { JBackupError, reasonOf } from "../domain/errors.js";
import { missedOf, type SignedReport, statusOf, type TestReport } from "../domain/testReport.js";
import { isPhysical } from "./bases.js";
import { type FoundBackup, findBackup } from "./findBackup.js";
import { type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";
import { checkAssertions } from "./testRestore/assertions.js";
import { testDump } from "./testRestore/fromDump.js";
import { testFiles } from "./testRestore/fromFiles.js";
import { TEST_RESTORE_JOB } from "./testRestore/job.js";
import { failed, isFinding, noted, Protocol, passed } from "./testRestore/protocol.js";
import { countReadings, type Readings } from "./testRestore/readings.js";
import { type ReportFiles, requireWritable, signReport, writeReports } from "./testRestore/report.js";
import { checkDatabases, checkRows, checkSoundness } from "./testRestore/rows.js";
import { settle, tellUntested } from "./testRestore/settle.js";
import { checkTenants } from "./testRestore/tenants.js";
import type { Tested, WalFinding } from "./testRestore/tested.js";
import { unjudgedFor } from "./testRestore/unjudged.js";

export { TEST_RESTORE_JOB } from "./testRestore/job.js";
export { checkReport } from "./testRestore/report.js";

export interface TestRestoreRequest {
  /** Null: the newest full backup. */
  reference: string | null;
  /** How many tenants are taken out and compared; null: as the configuration says. */
  tenants: number | null;
  /** Where the report is wanted as well; its ending says in which form. */
  reportFile: string | null;
}

export interface TestRestored extends SignedReport {
  files: ReportFiles;
}

/** Restores a backup on a server of its own, looks at everything, and removes it again. Nothing else is touched, and no backup waits. */
export async function testRestore(site: Site, request: TestRestoreRequest): Promise<TestRestored> {
  const copy = request.reportFile === null ? null : await requireWritable(site, request.reportFile);
  return withRun(
    site,
    TEST_RESTORE_JOB,
    async (run) => {
      await run.settleKilled();
      try {
        const report = await testBackup(site, run, request);
        const signed = await signReport(site, report);
        const files = await writeReports(site, signed, copy);
        await settle(site, report, files);
        return { ...signed, files };
      } catch (error) {
        await tellUntested(site, error, request.reference !== null);
        throw error;
      }
    },
    { judge: ({ report }) => (report.status === "passed" ? "succeeded" : "partial") },
  );
}

interface Testing {
  site: Site;
  run: RunContext;
  request: TestRestoreRequest;
  found: FoundBackup;
  protocol: Protocol;
  startedMs: number;
}

/** What the checks come to. */
interface Seen extends Pick<TestReport, "recovery" | "rtoMs" | "tables" | "rowsRecorded"> {}

async function testBackup(plain: Site, run: RunContext, request: TestRestoreRequest): Promise<TestReport> {
  const readings = countReadings(plain);
  const { site } = readings;
  const protocol = new Protocol(site);
  const startedMs = site.clock.monotonicMs();
  const found = await protocol.step("find the backup", () => findFull(site, request.reference ?? "latest"));
  const testing: Testing = { site, run, request, found, protocol, startedMs };
  const seen: Seen = { recovery: null, rtoMs: null, tables: [], rowsRecorded: "not" };
  try {
    await bringUp(testing, (tested, wal) => look(testing, seen, tested, wal));
  } catch (error) {
    site.signal.throwIfAborted();
    if (!isFinding(error)) throw error;
    protocol.checks.push({
      name: "restore",
      what: "the backup is brought up on an empty server",
      ...failed("a server that answers", reasonOf(error)),
      durationMs: Math.round(site.clock.monotonicMs() - startedMs),
    });
  } finally {
    site.report.progressEnd();
  }
  return reportOf(testing, seen, readings);
}

async function findFull(site: Site, reference: string): Promise<FoundBackup> {
  const found = await findBackup(site, reference);
  const { kind, label } = found.manifest.body;
  if (kind === "full") return found;
  throw new JBackupError("usage", `${label} is no full backup: it cannot be tested by itself`, {
    hint: "choose one with jbackup list --kind full; its tenants are tested with it",
  });
}

function bringUp(
  { site, found, protocol }: Testing,
  work: (tested: Tested, wal: WalFinding | null) => Promise<void>,
): Promise<void> {
  const stoppable = async (tested: Tested, wal: WalFinding | null): Promise<void> => {
    // whoever wants to stop does not wait for the statement that the server is at
    let stopping: Promise<void> | undefined;
    const stop = (): void => {
      stopping = tested.abort().catch(() => undefined); // what is left is ended once more, and then removed
    };
    site.signal.addEventListener("abort", stop, { once: true });
    try {
      await work(tested, wal);
    } finally {
      site.signal.removeEventListener("abort", stop);
      await stopping;
      site.signal.throwIfAborted();
    }
  };
  return isPhysical(found.manifest.body)
    ? testFiles(site, found, protocol, stoppable)
    : testDump(site, found, protocol, (tested) => stoppable(tested, null));
}

/** The clock stops when the database answers; what is looked at afterwards is no part of a recovery. */
async function look(testing: Testing, seen: Seen, tested: Tested, wal: WalFinding | null): Promise<void> {
  const { site, protocol, request, run, found } = testing;
  await protocol.check("restore", "the backup is brought up on an empty server", async () => {
    await (await tested.postgres.connect()).close();
    return passed("a server that answers", `PostgreSQL ${tested.recovery.serverVersion} answers`);
  });
  seen.recovery = tested.recovery;
  seen.rtoMs = Math.round(site.clock.monotonicMs() - testing.startedMs);
  seen.rowsRecorded = tested.recorded.how;
  if (wal !== null)
    await protocol.check("wal", "the WAL from the backup to the newest moment", async () =>
      walVerdict(wal, tested),
    );
  await checkDatabases(site, tested, protocol);
  seen.tables = await checkRows(tested, protocol);
  await checkAssertions(site, tested, protocol);
  await checkTenants(site, tested, protocol, {
    tenants: request.tenants ?? site.config.testRestore.tenants,
    seed: run.id,
    backupId: found.manifest.body.backupId,
  });
  await checkSoundness(tested, protocol);
}

function walVerdict({ files, gap }: WalFinding, { recovery }: Tested) {
  const expected = "no gap, and every file replayed";
  const seen = `${files} ${files === 1 ? "file" : "files"} replayed, up to ${recovery.recoveredTo}`;
  if (gap !== null) return failed(expected, files === 0 ? gap : `${seen}; ${gap}`);
  return files === 0
    ? noted(expected, "none is stored behind the backup: it ends where the backup ends")
    : passed(expected, seen);
}

async function reportOf(testing: Testing, seen: Seen, readings: Readings): Promise<TestReport> {
  const { site, run, found, protocol, startedMs } = testing;
  const { body, digest, signature } = found.manifest;
  const { rtoMs, rpoMs: objective } = site.config.objectives;
  const startedAt = run.startedAt.toISOString();
  const recoveredTo = seen.recovery?.recoveredTo ?? null;
  const measured = {
    rtoMs: seen.rtoMs,
    rpoMs: recoveredTo === null ? null : Math.max(0, Date.parse(startedAt) - Date.parse(recoveredTo)),
  };
  const unjudged = await unjudgedFor(site, found, testing.request.reference);
  const objectives = { rtoMs, rpoMs: objective };
  return {
    kind: "test-restore",
    format: 1,
    id: run.id,
    site: site.config.site,
    host: site.environment.host,
    by: run.by,
    jbackup: site.version,
    status: statusOf(protocol.checks),
    startedAt,
    finishedAt: site.clock.now().toISOString(),
    durationMs: Math.round(site.clock.monotonicMs() - startedMs),
    backup: {
      id: body.backupId,
      label: body.label,
      method: body.method ?? "logical",
      createdAt: body.createdAt,
      finishedAt: body.finishedAt,
      manifestSha256: digest,
      signer: signature.signer,
      madeWith: `${body.tool.name} ${body.tool.version}`,
      serverVersion: body.server?.version ?? "unknown",
      buildsOn: body.needs?.map(({ backupId }) => backupId) ?? [],
      bytes: typeof body.metadata.clusterBytes === "number" ? body.metadata.clusterBytes : body.rawBytes,
    },
    recovery: seen.recovery,
    storages: await readings.storages(),
    objectives,
    ...measured,
    missed: missedOf(measured, objectives).filter((one) => one === "rto" || unjudged === null),
    unjudged,
    checks: protocol.checks,
    tables: seen.tables,
    rowsRecorded: seen.rowsRecorded,
    timeline: protocol.timeline,
    remarks: [...readings.warnings, ...body.warnings, ...protocol.remarks],
  };
}
