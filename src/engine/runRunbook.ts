import { join } from "node:path";
import type { LoadedRunbook } from "../config/config.js";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import { measure, type RecoveryReport } from "../domain/recoveryReport.js";
import { filledAction, type Runbook, type Step } from "../domain/runbook.js";
import { movesFrom, startedIn, undoOrder } from "../domain/runbookRun.js";
import { writeFileAtomic } from "../sys/atomicFile.js";
import { sweepBegunFolders } from "../sys/claimedFolder.js";
import { raiseAlert, resolveAlert } from "./alert.js";
import { DRILL_OVERDUE } from "./alerts/drills.js";
import { actorOf, recordAudit } from "./audit.js";
import { drillGround, realGround } from "./dr/ground.js";
import { createJournal, knownRuns, openJournal, type RunJournal } from "./dr/journal.js";
import { startLiveLine } from "./dr/liveLine.js";
import { DRILL_OPERATOR, type Operator } from "./dr/operator.js";
import { findRunbook, loadRunbook, missingVariables, refuseDangers, valuesFor } from "./dr/prepare.js";
import { RUNBOOK_COPY, runbookOf, writeReport } from "./dr/report.js";
import { runStep, type StepContext, undoStep } from "./dr/runStep.js";
import { claimScratch, isOwnScratch, leftScratches, makeScratch, removeScratch } from "./dr/scratch.js";
import { lockOnHost } from "./lock.js";
import type { Site } from "./site.js";

export interface RunbookWish {
  name: string;
  isDrill: boolean;
  /** Null: now. */
  incidentAt: Date | null;
  /** NAME=VALUE */
  given: string[];
}

export interface RunbookEnd {
  report: RecoveryReport;
  /** Where the report is. */
  path: string;
  /** Why it stopped; null when it went to its end. */
  error: JBackupError | null;
}

/** Carries a runbook out from its first step, for real or as a drill. */
export async function runRunbook(site: Site, wish: RunbookWish, operator: Operator): Promise<RunbookEnd> {
  const loaded = await loadRunbook(site, wish.name);
  return locked(site, wish.isDrill, async () => {
    const { journal, scratch } = await begin(site, loaded, wish, operator);
    return carryOut(site, loaded.runbook, journal, scratch, wish.isDrill ? DRILL_OPERATOR : operator);
  });
}

/** Goes on with the newest run that has not ended, whoever began it and however it was cut off. */
export async function resumeRunbook(
  site: Site,
  name: string | null,
  operator: Operator,
): Promise<RunbookEnd> {
  const journal = await unfinished(site, name);
  const runbook = await sameRunbook(site, journal);
  const { isDrill } = journal.state;
  return locked(site, isDrill, async () => {
    const scratch = await scratchAgain(site, journal);
    await journal.write({ type: "resumed", by: actorOf(site) });
    if (journal.state.phase === "aborting") return takeBack(site, runbook, journal, scratch, operator);
    return carryOut(site, runbook, journal, scratch, isDrill ? DRILL_OPERATOR : operator);
  });
}

/** Ends the newest run that has not ended: whatever can be taken back is, last first. */
export async function abortRunbook(site: Site, name: string | null, operator: Operator): Promise<RunbookEnd> {
  const journal = await unfinished(site, name);
  const runbook = await runbookOf(site, journal);
  const { isDrill, values } = journal.state;
  return locked(site, isDrill, async () => {
    await journal.write({ type: "aborting", by: actorOf(site) });
    return takeBack(site, runbook, journal, isDrill ? (values.scratch ?? null) : null, operator);
  });
}

/** A drill never waits for a recovery, nor a recovery for a drill. */
async function locked<Result>(site: Site, isDrill: boolean, work: () => Promise<Result>): Promise<Result> {
  const release = await lockOnHost(site, isDrill ? "drill" : "dr");
  try {
    return await work();
  } finally {
    release();
  }
}

async function begin(
  site: Site,
  { runbook, text, hash }: LoadedRunbook,
  { isDrill, incidentAt, given: said }: RunbookWish,
  operator: Operator,
): Promise<{ journal: RunJournal; scratch: string | null }> {
  const run = site.newId();
  const incident = incidentAt ?? site.clock.now();
  const given = [...said, ...(await operator.values(missingVariables({ runbook, isDrill, given: said })))];
  const { database } = await site.postgres();
  const folder = join(site.config.home, "dr", run);
  const valuesIn = (scratch: string | null): Record<string, string> =>
    valuesFor(site, { runbook, isDrill, given, incidentAt: incident, run, folder, scratch, database });
  // whatever is missing is told before anything is made
  const known = valuesIn(isDrill ? "/scratch" : null);
  if (!isDrill) operator.foresee(questionsOf(runbook, known));
  if (isDrill) await sweepDrills(site, runbook.name);
  const scratch = isDrill ? await makeScratch(site, run) : null;
  const values = valuesIn(scratch);
  try {
    if (scratch !== null) refuseDangers(runbook, values, scratch);
    const journal = await createJournal(site, run);
    await writeFileAtomic(join(journal.folder, RUNBOOK_COPY), text, { overwrite: true });
    const who = { run, runbook: runbook.name, hash, isDrill, values, by: actorOf(site) };
    await journal.write({ type: "started", ...who, incidentAt: incident.toISOString() });
    await recordAudit(site, isDrill ? "dr.drill" : "dr.run", run, { runbook: runbook.name });
    return { journal, scratch };
  } catch (error) {
    if (scratch !== null) await removeScratch(site, scratch);
    throw error;
  }
}

/** Everything that somebody will be asked: without a terminal the flags must answer it. */
function questionsOf(
  runbook: Runbook,
  values: Record<string, string>,
): { names: string[]; byHand: string[] } {
  const actions = runbook.steps.map(({ name, action }) => ({ name, action: filledAction(action, values) }));
  return {
    names: actions.flatMap(({ action }) => (action.kind === "confirm" ? [action.type] : [])),
    byHand: actions.flatMap(({ name, action }) => (action.kind === "manual" ? [name] : [])),
  };
}

const OPEN = ["running", "stopped", "aborting"];

async function unfinished(site: Site, name: string | null): Promise<RunJournal> {
  for (const run of await knownRuns(site)) {
    const journal = await openJournal(site, run);
    const { phase, runbook, isDrill } = journal.state;
    // a drill that failed has cleaned up after itself
    const isOpen = OPEN.includes(phase) && !(isDrill && phase === "stopped");
    if (isOpen && (name === null || runbook === name)) return journal;
  }
  if (name !== null) await findRunbook(site, name);
  throw new JBackupError("not_found", `there is no unfinished run${name === null ? "" : ` of ${name}`}`, {
    hint: `begin one with jbackup dr run ${name ?? "RUNBOOK"}`,
  });
}

/** A run goes on with exactly the runbook that it began with. */
async function sameRunbook(site: Site, journal: RunJournal): Promise<Runbook> {
  const { run, runbook, hash } = journal.state;
  const loaded = await loadRunbook(site, runbook);
  if (loaded.hash === hash) return loaded.runbook;
  throw new JBackupError("usage", `the runbook ${runbook} has changed since run ${run} began with it`, {
    hint: `put ${join(journal.folder, RUNBOOK_COPY)} back in place of ${loaded.file}, or end the run with jbackup dr run ${runbook} --abort`,
  });
}

async function scratchAgain(site: Site, journal: RunJournal): Promise<string | null> {
  const { isDrill, values, run, runbook } = journal.state;
  if (!isDrill) return null;
  const folder = values.scratch ?? "";
  if (!(await isOwnScratch(site, folder)))
    throw new JBackupError("target_refused", `the folder of drill ${run} was removed when it ended`, {
      hint: `begin a new one with jbackup dr run ${runbook} --drill`,
    });
  await claimScratch(site, folder, run);
  return folder;
}

/** What drills of this runbook left that were killed; a new one takes their place. */
async function sweepDrills(site: Site, runbook: string): Promise<void> {
  for (const folder of await sweepBegunFolders(site.environment.temporaryDirectory))
    site.report.info(`removed ${folder}, begun by a run that was killed`);
  for (const { folder, run, isHere } of await leftScratches(site)) {
    if (run === null) {
      await removeScratch(site, folder);
      site.report.info(`removed ${folder}, left by a drill that a power cut ended`);
      continue;
    }
    const journal = await openJournal(site, run).catch((error: unknown) => {
      if (isJBackupError(error, "not_found")) return null;
      throw error;
    });
    // killed before the first line of its journal, or another site's
    if (journal === null ? !isHere : journal.state.runbook !== runbook) continue;
    await removeScratch(site, folder);
    if (journal !== null && OPEN.includes(journal.state.phase))
      await journal.write({ type: "ended", status: "aborted", rtoMs: null, rpoMs: null });
    site.report.info(`removed ${folder}, left by a drill that was killed`);
  }
}

async function carryOut(
  site: Site,
  runbook: Runbook,
  journal: RunJournal,
  scratch: string | null,
  operator: Operator,
): Promise<RunbookEnd> {
  const ground =
    scratch === null ? realGround(site, startedIn(runbook, journal.state)) : drillGround(site, scratch);
  const earlier = await earlierDurations(site, runbook.name, journal.state.run);
  const objectiveMs = site.config.objectives.rtoMs;
  const line = startLiveLine(site, { runbook, state: () => journal.state, earlier, objectiveMs });
  const asking: Operator = {
    by: operator.by,
    values: (missing) => operator.values(missing),
    foresee: (questions) => operator.foresee(questions),
    confirm: (...question) => line.hold(() => operator.confirm(...question)),
    byHand: (...question) => line.hold(() => operator.byHand(...question)),
    choose: (...question) => line.hold(() => operator.choose(...question)),
  };
  let error: JBackupError | null = null;
  try {
    error = await allSteps(runbook, { site, journal, ground, operator: asking, line });
    if (error === null) await complete(site, runbook, journal);
    else await journal.write({ type: "stopped", reason: error.message });
  } catch (thrown) {
    // nothing of a drill is left to go on with
    if (scratch !== null) await journal.write({ type: "ended", status: "aborted", rtoMs: null, rpoMs: null });
    throw thrown;
  } finally {
    line.stop();
    if (scratch !== null) await removeScratch(site, scratch);
  }
  const { report, path } = await writeReport(site, journal, runbook);
  await tellOutcome(site, report, error);
  return { report, path, error };
}

/** Begins whatever may begin, side by side, until all is done or something fails. Answers what failed. */
async function allSteps(runbook: Runbook, context: StepContext): Promise<JBackupError | null> {
  const { journal, site, line } = context;
  const working = new Map<string, Promise<string>>();
  let failure: unknown = null;
  const start = (step: Step): void => {
    line.begin(step);
    const done = runStep(step, context)
      .then(({ outcome, error }) => {
        if (outcome === "failed") failure ??= error;
      })
      .catch((error: unknown) => {
        failure ??= error;
      })
      .then(() => {
        line.end(step);
        return step.name;
      });
    working.set(step.name, done);
  };
  for (;;) {
    site.signal.throwIfAborted();
    const moves = movesFrom(runbook, journal.state, new Set(working.keys()));
    if (failure === null) for (const step of [...moves.doubtful, ...moves.begin]) start(step);
    if (working.size === 0) break;
    working.delete(await Promise.race(working.values()));
  }
  site.signal.throwIfAborted();
  if (failure === null || failure instanceof JBackupError) {
    // what a person has to answer first leaves the run as it is, to be resumed
    if (isJBackupError(failure, "needs_confirmation", "locked")) throw failure;
    return failure;
  }
  throw failure;
}

async function complete(site: Site, runbook: Runbook, journal: RunJournal): Promise<void> {
  const measured = measure(runbook, journal.state, site.clock.now().toISOString());
  await journal.write({ type: "ended", status: "succeeded", ...measured });
}

async function earlierDurations(site: Site, name: string, run: string): Promise<Map<string, number>> {
  const [last] = (await site.catalog.drills(name)).filter(
    ({ id, status }) => id !== run && status === "succeeded",
  );
  const steps = (last?.steps ?? []) as { name: string; durationMs: number | null }[];
  return new Map(steps.flatMap((step) => (step.durationMs === null ? [] : [[step.name, step.durationMs]])));
}

async function takeBack(
  site: Site,
  runbook: Runbook,
  journal: RunJournal,
  scratch: string | null,
  operator: Operator,
): Promise<RunbookEnd> {
  const ground =
    scratch === null ? realGround(site, startedIn(runbook, journal.state)) : drillGround(site, scratch);
  const { rtoMs } = site.config.objectives;
  const line = startLiveLine(site, {
    runbook,
    state: () => journal.state,
    earlier: new Map(),
    objectiveMs: rtoMs,
  });
  const kept: string[] = [];
  try {
    if (scratch === null) {
      for (const step of undoOrder(runbook, journal.state))
        if (!(await undoStep(step, { site, journal, ground, operator, line }))) kept.push(step.name);
    } else await removeScratch(site, scratch);
  } finally {
    line.stop();
  }
  await journal.write({ type: "ended", status: "aborted", rtoMs: null, rpoMs: null });
  await recordAudit(site, "dr.abort", journal.state.run, { runbook: runbook.name });
  const { report, path } = await writeReport(site, journal, runbook);
  const error =
    kept.length === 0
      ? null
      : new JBackupError("partial", `aborted, but ${kept.join(" and ")} could not be taken back`, {
          hint: `look at ${path}`,
        });
  return { report, path, error };
}

const failureOf = (runbook: string): string => `dr:failed:${runbook}`;
const objectiveOf = (runbook: string): string => `dr:objective:${runbook}`;

/** Failures and missed objectives are alerts; a success takes them back, and the one that a drill is overdue. */
async function tellOutcome(
  site: Site,
  { runbook, drill, id, missed, status }: RecoveryReport,
  error: JBackupError | null,
): Promise<void> {
  const what = drill ? `the drill of ${runbook}` : `the recovery by ${runbook}`;
  const hint = `jbackup dr report ${id}`;
  const trouble = { type: "RESTORE_FAILURE", severity: drill ? "error" : "critical", hint } as const;
  if (error !== null) {
    const message = `${what} failed: ${error.message}`;
    await raiseAlert(site, { ...trouble, fingerprint: failureOf(runbook), message });
    return;
  }
  if (status !== "succeeded") return;
  await resolveAlert(site, failureOf(runbook), `${what} succeeded`);
  if (missed.length > 0) {
    const message = `${what} missed the objective (${missed.join(" and ").toUpperCase()})`;
    await raiseAlert(site, { ...trouble, severity: "error", fingerprint: objectiveOf(runbook), message });
  } else await resolveAlert(site, objectiveOf(runbook), `${what} met the objectives`);
  if (!drill) return;
  await resolveAlert(site, DRILL_OVERDUE, `drill ${id} succeeded`);
}
