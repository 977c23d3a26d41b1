import { JBackupError, reasonOf } from "../domain/errors.js";
import type { SignedReport, TestReport } from "../domain/testReport.js";
import { isPhysical } from "./bases.js";
import { type FoundBackup, findBackup } from "./findBackup.js";
import { newerTexts } from "./passedOver.js";
import { onThisHost, type RunContext, withRun } from "./run.js";
import type { Site } from "./site.js";
import { checkAssertions } from "./testRestore/assertions.js";
import { testDump } from "./testRestore/fromDump.js";
import { testFiles } from "./testRestore/fromFiles.js";
import { TEST_RESTORE_JOB } from "./testRestore/job.js";
import { isNewest } from "./testRestore/newest.js";
import { failed, isFinding, noted, Protocol, passed } from "./testRestore/protocol.js";
import { countReadings } from "./testRestore/readings.js";
import { type ReportFiles, requireWritable, signReport, writeReports } from "./testRestore/report.js";
import { checkDatabases, checkRows, checkSoundness } from "./testRestore/rows.js";
import { settle, tellUntested } from "./testRestore/settle.js";
import { checkTenants } from "./testRestore/tenants.js";
import type { Tested, WalFinding } from "./testRestore/tested.js";
import { reportOf, type Seen, type Testing } from "./testRestore/toReport.js";

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
  // a mistyped name is no failed test
  const isWhole = request.reference === null || request.reference === "latest";
  const about = isWhole ? null : (await findFull(site, request.reference ?? "")).manifest.body.backupId;
  return withRun(
    site,
    TEST_RESTORE_JOB,
    async (run) => {
      await run.settleKilled(onThisHost(site));
      try {
        const { report, found } = await testBackup(site, run, request);
        const signed = await signReport(site, report);
        const files = await writeReports(site, signed, copy);
        await settle(site, report, { files, isNewest: await isNewest(site, found), about });
        return { ...signed, files };
      } catch (error) {
        await tellUntested(site, error, about);
        throw error;
      }
    },
    {
      judge: ({ report }) => (report.status === "passed" ? "succeeded" : "partial"),
      ...(about === null ? {} : { scope: "part" as const, about }),
    },
  );
}

async function testBackup(
  plain: Site,
  run: RunContext,
  request: TestRestoreRequest,
): Promise<{ report: TestReport; found: FoundBackup }> {
  const readings = countReadings(plain);
  const { site } = readings;
  const tenants =
    site.config.tenants === undefined ? 0 : (request.tenants ?? site.config.testRestore.tenants);
  const protocol = new Protocol(site, plannedChecks(site, tenants));
  const startedMs = site.clock.monotonicMs();
  const found = await protocol.step("find the backup", () => findFull(site, request.reference ?? "latest"));
  const testing: Testing = { site, run, tenants, found, protocol, startedMs };
  const seen: Seen = { recovery: null, rtoMs: null, tables: [], rowsRecorded: "not" };
  await checkIsNewest(found, protocol);
  try {
    await bringUp(testing, (tested, wal) => look(testing, seen, tested, wal));
  } catch (error) {
    site.signal.throwIfAborted();
    if (!isFinding(error)) throw error;
    protocol.fail(nameOf(protocol), reasonOf(error), site.clock.monotonicMs() - startedMs);
  } finally {
    site.report.progressEnd();
  }
  return { report: await reportOf(testing, seen, readings), found };
}

/** A test of an older backup says nothing of the one that a restore would be made from. */
async function checkIsNewest(found: FoundBackup, protocol: Protocol): Promise<void> {
  const newer = newerTexts(found);
  protocol.remarks.push(...newer);
  if (found.passedOver.length === 0) return;
  await protocol.check("newest", "the newest backup is the one that is tested", async () =>
    failed("no newer backup that cannot be believed", newer.join("; ")),
  );
}

/** Whatever breaks before the server answers breaks the restore; behind that, there is only its end. */
const nameOf = ({ checks }: Protocol): string =>
  checks.some(({ name }) => name === RESTORE) ? "end" : RESTORE;
const RESTORE = "restore";

/** restore, wal, databases, rows, structure, checksums. */
const ALWAYS = 6;

const plannedChecks = ({ config }: Site, tenants: number): number =>
  ALWAYS + config.testRestore.assertions.length + (tenants === 0 ? 0 : 1 + 2 * tenants);

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
  const { site, protocol, tenants, run, found } = testing;
  const up = await protocol.check(RESTORE, "the backup is brought up on an empty server", async () => {
    await (await tested.postgres.connect()).close();
    return passed("a server that answers", `PostgreSQL ${tested.recovery.serverVersion} answers`);
  });
  seen.recovery = tested.recovery;
  if (up.status === "passed") seen.rtoMs = Math.round(site.clock.monotonicMs() - testing.startedMs);
  seen.rowsRecorded = tested.recorded.how;
  if (wal !== null)
    await protocol.check("wal", "the WAL from the backup to the newest moment", async () =>
      walVerdict(wal, tested),
    );
  await checkDatabases(site, tested, protocol);
  seen.tables = await checkRows(tested, protocol);
  await checkAssertions(site, tested, protocol);
  await checkTenants(site, tested, protocol, {
    tenants,
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
