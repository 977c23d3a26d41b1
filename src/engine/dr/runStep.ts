import { setTimeout as pause } from "node:timers/promises";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import { type Action, actionOf, filledAction, type Step } from "../../domain/runbook.js";
import { type Evidence, type Outcome, stepState } from "../../domain/runbookRun.js";
import { isAlive, markOf } from "../../sys/processes.js";
import type { Site } from "../site.js";
import { type ActContext, act, finishedRestore } from "./act.js";
import type { Ground } from "./ground.js";
import type { RunJournal } from "./journal.js";
import type { LiveLine } from "./liveLine.js";
import type { Operator } from "./operator.js";

export interface StepContext {
  site: Site;
  journal: RunJournal;
  ground: Ground;
  operator: Operator;
  line: LiveLine;
}

const RETRY_AFTER_MS = 2_000;

/** One step from its first try to an outcome that is written down. Throws only when the run must stop where it is. */
export async function runStep(
  step: Step,
  context: StepContext,
): Promise<{ outcome: Outcome; error: unknown }> {
  const { site, journal, ground } = context;
  const action = actionOf(step, ground.isDrill);
  if (action === null) {
    const evidence = [{ what: "left out", text: "the runbook gives it nothing to do in a drill" }];
    await finish(step, context, { outcome: "skipped", evidence, error: null, durationMs: 0 });
    return { outcome: "skipped", error: null };
  }
  const left = stepState(journal.state, step.name);
  const startedMs = site.clock.monotonicMs();
  const durationMs = (): number => Math.round(site.clock.monotonicMs() - startedMs);
  if (left.status === "running") {
    await waitForLeftover(step, context);
    const evidence = await provedDone(step, action, context);
    if (evidence !== null) {
      await finish(step, context, { outcome: "done", evidence, error: null, durationMs: durationMs() });
      return { outcome: "done", error: null };
    }
  }
  for (let attempt = left.attempts + 1, failures = 0; ; attempt++) {
    await journal.write({ type: "step-started", step: step.name, attempt });
    site.step(`dr:${step.name}:started`);
    try {
      const evidence = await tryOnce(step, action, context);
      site.step(`dr:${step.name}:acted`);
      await finish(step, context, { outcome: "done", evidence, error: null, durationMs: durationMs() });
      site.step(`dr:${step.name}:finished`);
      return { outcome: "done", error: null };
    } catch (error) {
      site.signal.throwIfAborted();
      if (isJBackupError(error, "needs_confirmation", "bug")) throw error;
      if (!(error instanceof JBackupError)) throw error;
      failures++;
      const next = await afterFailure(step, error, failures, context);
      if (next === "again") continue;
      await finish(step, context, {
        outcome: next,
        evidence: [],
        error: error.message,
        durationMs: durationMs(),
      });
      return { outcome: next, error };
    }
  }
}

const actContext = (step: Step, { site, journal, ground, operator, line }: StepContext): ActContext => ({
  site,
  ground,
  operator,
  step: step.name,
  run: journal.state.run,
  watcher: {
    onStart: (pid) => void journal.write({ type: "step-process", step: step.name, process: markOf(pid) }),
    onErrorLine: (text) => line.heard(step.name, text),
  },
});

async function tryOnce(step: Step, action: Action, context: StepContext): Promise<Evidence[]> {
  const { values } = context.journal.state;
  const own = actContext(step, context);
  const evidence: Evidence[] = [];
  if (step.precheck !== null) evidence.push(await act(filledAction(step.precheck, values), own));
  evidence.push(await act(filledAction(action, values), own));
  if (step.verify !== null) evidence.push(await proof(step.verify, values, own));
  return evidence;
}

async function proof(verify: Action, values: Record<string, string>, own: ActContext): Promise<Evidence> {
  const seen = await act(filledAction(verify, values), own);
  return { ...seen, what: `verified: ${seen.what}` };
}

type Next = "again" | "failed" | "passed-over";

async function afterFailure(
  step: Step,
  error: JBackupError,
  failures: number,
  { site, journal, operator }: StepContext,
): Promise<Next> {
  const { onFailure } = step;
  if (onFailure.do === "continue") return "passed-over";
  if (onFailure.do === "retry" && failures <= onFailure.times) {
    site.report.warn(`step ${step.name} failed (${error.message}); trying it again`);
    await pause(RETRY_AFTER_MS, undefined, { signal: site.signal }).catch(() => site.signal.throwIfAborted());
    return "again";
  }
  if (onFailure.do !== "ask") return "failed";
  const question = `step ${step.name} failed: ${error.message}`;
  const answer = await operator.choose(step.name, question, {
    failed: "stop here; the run can be resumed",
    again: "try it again",
    "passed-over": "go on without it",
  });
  await journal.write({ type: "decision", step: step.name, by: operator.by, question, answer });
  return answer;
}

const LEFTOVER_MS = 30_000;

/** The process of a run that died stops by itself; until it has, nobody may do the same beside it. */
async function waitForLeftover(step: Step, { site, journal }: StepContext): Promise<void> {
  const { process } = stepState(journal.state, step.name);
  for (let waitedMs = 0; process !== null && isAlive(process); waitedMs += 200) {
    if (waitedMs >= LEFTOVER_MS)
      throw new JBackupError(
        "locked",
        `process ${process.pid} of the run that died still does step ${step.name}`,
        {
          hint: `wait for it to end, or end it with kill ${process.pid}; then resume again`,
        },
      );
    await pause(200, undefined, { signal: site.signal }).catch(() => site.signal.throwIfAborted());
  }
}

/** Whether a step that a dead run had begun was done after all. Null: it is done again. */
async function provedDone(step: Step, action: Action, context: StepContext): Promise<Evidence[] | null> {
  const { journal, operator } = context;
  if (action.kind === "restore" && !action.words.includes("--dry-run")) {
    const { words } = filledAction(action, journal.state.values);
    const found = await finishedRestore(words, actContext(step, context));
    return found === null ? null : [found];
  }
  if (step.isRepeatable) return null;
  const question = `step ${step.name} had begun when the run ended; nobody knows whether it was done`;
  const answer = await operator.choose(step.name, question, {
    done: "it was done: go on after it",
    again: "it was not done: do it now",
  });
  await journal.write({ type: "decision", step: step.name, by: operator.by, question, answer });
  return answer === "done" ? [{ what: "taken as done", text: `by ${operator.by}` }] : null;
}

interface Finish {
  outcome: Outcome;
  evidence: Evidence[];
  error: string | null;
  durationMs: number;
}

async function finish(step: Step, { journal, site }: StepContext, finished: Finish): Promise<void> {
  await journal.write({ type: "step-finished", step: step.name, ...finished });
  const { outcome, error, durationMs } = finished;
  const seconds = `${Math.round(durationMs / 100) / 10} s`;
  if (outcome === "done") site.report.info(`done: ${step.name}, ${seconds}`);
  else if (outcome === "skipped") site.report.info(`left out: ${step.name}`);
  else site.report.warn(`${outcome === "failed" ? "failed" : "went on without"}: ${step.name}: ${error}`);
}

/** Takes one step back; what cannot be taken back is told, and the others are tried all the same. */
export async function undoStep(step: Step, context: StepContext): Promise<boolean> {
  const { journal, site } = context;
  let error: string | null = null;
  try {
    if (step.undo !== null)
      await act(filledAction(step.undo, journal.state.values), actContext(step, context));
    site.report.info(`taken back: ${step.name}`);
  } catch (thrown) {
    site.signal.throwIfAborted();
    error = reasonOf(thrown);
    site.report.warn(`${step.name} could not be taken back: ${error}`);
  }
  await journal.write({ type: "step-undone", step: step.name, error });
  return error === null;
}
