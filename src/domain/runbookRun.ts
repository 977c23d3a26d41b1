import { filledAction, type Runbook, type Step } from "./runbook.js";

/** What a journal says about a run, event by event: everything that is known of it. */
export type RunEvent = { at: string } & (
  | {
      type: "started";
      run: string;
      runbook: string;
      hash: string;
      isDrill: boolean;
      values: Record<string, string>;
      incidentAt: string;
      by: string;
    }
  | { type: "resumed"; by: string }
  | { type: "step-process"; step: string; process: StepProcess }
  | { type: "step-started"; step: string; attempt: number }
  | {
      type: "step-finished";
      step: string;
      outcome: Outcome;
      durationMs: number;
      evidence: Evidence[];
      error: string | null;
    }
  | { type: "decision"; step: string | null; by: string; question: string; answer: string }
  | { type: "step-undone"; step: string; error: string | null }
  | { type: "stopped"; reason: string }
  | { type: "aborting"; by: string }
  | { type: "ended"; status: "succeeded" | "aborted"; rtoMs: number | null; rpoMs: number | null }
);

/** passed-over: it failed, and the run goes on without it. */
export type Outcome = "done" | "failed" | "skipped" | "passed-over";

/** The process that does a step: one that outlives its run is waited for. */
export interface StepProcess {
  pid: number;
  startTicks: string | null;
  bootId: string | null;
}

/** One fact that somebody may ask for later. */
export interface Evidence {
  what: string;
  text: string;
  facts?: Record<string, unknown>;
}

export interface StepState {
  status: "pending" | "running" | Outcome;
  attempts: number;
  startedAt: string | null;
  finishedAt: string | null;
  durationMs: number | null;
  evidence: Evidence[];
  error: string | null;
  isUndone: boolean;
  process: StepProcess | null;
}

export interface RunState {
  phase: "new" | "running" | "stopped" | "aborting" | "succeeded" | "aborted";
  run: string;
  runbook: string;
  hash: string;
  isDrill: boolean;
  values: Record<string, string>;
  incidentAt: string;
  startedAt: string;
  endedAt: string | null;
  by: string[];
  steps: Map<string, StepState>;
  decisions: { at: string; step: string | null; by: string; question: string; answer: string }[];
  rtoMs: number | null;
  rpoMs: number | null;
}

const EMPTY_STEP: StepState = {
  status: "pending",
  attempts: 0,
  startedAt: null,
  finishedAt: null,
  durationMs: null,
  evidence: [],
  error: null,
  isUndone: false,
  process: null,
};

export const NOTHING: RunState = {
  phase: "new",
  run: "",
  runbook: "",
  hash: "",
  isDrill: false,
  values: {},
  incidentAt: "",
  startedAt: "",
  endedAt: null,
  by: [],
  steps: new Map(),
  decisions: [],
  rtoMs: null,
  rpoMs: null,
};

export const stepState = (state: RunState, name: string): StepState => state.steps.get(name) ?? EMPTY_STEP;

/** Where this run has started a server; of several the last one counts. */
export function startedIn({ steps }: Runbook, state: RunState): string | null {
  return steps.reduce<string | null>((last, { name, action }) => {
    if (action.kind !== "start" || stepState(state, name).status !== "done") return last;
    return filledAction(action, state.values).directory;
  }, null);
}

const withStep = (state: RunState, name: string, change: Partial<StepState>): RunState => ({
  ...state,
  steps: new Map(state.steps).set(name, { ...stepState(state, name), ...change }),
});

const withPerson = (state: RunState, by: string): RunState =>
  state.by.includes(by) ? state : { ...state, by: [...state.by, by] };

/** The state after one more event. */
export function advance(state: RunState, event: RunEvent): RunState {
  switch (event.type) {
    case "started": {
      const { run, runbook, hash, isDrill, values, incidentAt, at, by } = event;
      return {
        ...NOTHING,
        phase: "running",
        run,
        runbook,
        hash,
        isDrill,
        values,
        incidentAt,
        startedAt: at,
        by: [by],
      };
    }
    case "resumed":
      // what failed is tried again: that is what somebody resumes for
      return withPerson(
        {
          ...state,
          phase: state.phase === "aborting" ? "aborting" : "running",
          steps: new Map(
            [...state.steps].map(([name, step]) => [
              name,
              step.status === "failed" ? { ...step, status: "pending" as const } : step,
            ]),
          ),
        },
        event.by,
      );
    case "step-started":
      return withStep(state, event.step, {
        status: "running",
        attempts: event.attempt,
        startedAt: stepState(state, event.step).startedAt ?? event.at,
      });
    case "step-process":
      return withStep(state, event.step, { process: event.process });
    case "step-finished": {
      const { outcome: status, durationMs, evidence, error, at } = event;
      return withStep(state, event.step, { status, durationMs, evidence, error, finishedAt: at });
    }
    case "decision": {
      const { at, step, by, question, answer } = event;
      return withPerson(
        { ...state, decisions: [...state.decisions, { at, step, by, question, answer }] },
        by,
      );
    }
    case "step-undone":
      return withStep(state, event.step, { isUndone: event.error === null });
    case "stopped":
      return { ...state, phase: "stopped" };
    case "aborting":
      return withPerson({ ...state, phase: "aborting" }, event.by);
    case "ended":
      return { ...state, phase: event.status, endedAt: event.at, rtoMs: event.rtoMs, rpoMs: event.rpoMs };
  }
}

export const replay = (events: readonly RunEvent[]): RunState => events.reduce(advance, NOTHING);

export interface Moves {
  /** Steps that may begin now, side by side. */
  begin: Step[];
  /** Begun by a run that died, and not to be done twice: somebody must say whether they were done. */
  doubtful: Step[];
  isComplete: boolean;
}

const SETTLED = ["done", "skipped", "passed-over"];

/**
 * What is to be done next. `atWork` are the steps that this process is doing: any other that says it is running was
 * left by one that died.
 */
export function movesFrom(runbook: Runbook, state: RunState, atWork: ReadonlySet<string> = new Set()): Moves {
  const settled = (name: string): boolean => SETTLED.includes(stepState(state, name).status);
  const open = runbook.steps.filter(({ name }) => !settled(name) && !atWork.has(name));
  const isFree = !runbook.steps.some(({ name }) => stepState(state, name).status === "failed");
  const left = open.filter(({ name }) => stepState(state, name).status === "running");
  return {
    begin:
      state.phase !== "running" || !isFree
        ? []
        : open.filter(
            (step) =>
              step.needs.every(settled) &&
              (stepState(state, step.name).status === "pending" ||
                (stepState(state, step.name).status === "running" && step.isRepeatable)),
          ),
    doubtful: left.filter(({ isRepeatable }) => !isRepeatable),
    isComplete: runbook.steps.every(({ name }) => settled(name)),
  };
}

/** What an abort takes back: whatever was begun and has an undo, last first. */
export function undoOrder(runbook: Runbook, state: RunState): Step[] {
  const begun = runbook.steps.filter(({ name, undo }) => {
    const { status, attempts, isUndone } = stepState(state, name);
    return undo !== null && attempts > 0 && status !== "skipped" && !isUndone;
  });
  const startOf = ({ name }: Step): string => stepState(state, name).startedAt ?? "";
  return begun
    .map((step, at) => ({ step, at }))
    .sort((a, b) => startOf(b.step).localeCompare(startOf(a.step)) || b.at - a.at)
    .map(({ step }) => step);
}
