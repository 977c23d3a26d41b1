import type { Runbook, Step } from "../../domain/runbook.js";
import { type RunState, stepState } from "../../domain/runbookRun.js";
import type { Site } from "../site.js";

/** Where the run stands against the clock, redrawn every second. */
export interface LiveLine {
  begin(step: Step): void;
  end(step: Step): void;
  /** A line that the program of a step wrote to stderr. */
  heard(step: string, line: string): void;
  /** No line while somebody is asked. */
  hold<Result>(ask: () => Promise<Result>): Promise<Result>;
  stop(): void;
}

interface Working {
  step: Step;
  startedMs: number;
  /** How much of it is done, if its program says so. */
  share: number | null;
  isHalfTold: boolean;
}

export interface LineWish {
  runbook: Runbook;
  state(): RunState;
  /** How long each step took the last time, in milliseconds. */
  earlier: Map<string, number>;
  objectiveMs: number;
}

const clockText = (ms: number): string => {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  const two = (value: number): string => String(value).padStart(2, "0");
  return seconds < 3_600
    ? `${Math.floor(seconds / 60)}:${two(seconds % 60)}`
    : `${Math.floor(seconds / 3_600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
};

/** The rest of a step: by what its program says, else by how long it took the last time, else by its budget. */
function leftMs({ step, share }: Working, elapsedMs: number, earlier: Map<string, number>): number {
  if (share !== null && share > 0.02) return (elapsedMs / share) * (1 - share);
  return Math.max(0, (earlier.get(step.name) ?? step.budgetMs) - elapsedMs);
}

export function startLiveLine(site: Site, { runbook, state, earlier, objectiveMs }: LineWish): LiveLine {
  const working = new Map<string, Working>();
  let isHeld = 0;
  let isHalfTold = false;
  const nowMs = (): number => site.clock.monotonicMs();

  const sinceIncidentMs = (): number => site.clock.now().getTime() - Date.parse(state().incidentAt);
  const tellHalf = (one: Working, elapsedMs: number): void => {
    if (one.isHalfTold || elapsedMs < one.step.budgetMs / 2) return;
    one.isHalfTold = true;
    const faster = one.step.faster ?? "nothing is known that would speed it up";
    site.report.info(
      `${one.step.name} has used half of its ${clockText(one.step.budgetMs)}. Faster: ${faster}`,
    );
  };
  const tellHalfOfAll = (): void => {
    if (isHalfTold || sinceIncidentMs() < objectiveMs / 2) return;
    isHalfTold = true;
    const open = runbook.steps.filter(({ name }) =>
      ["pending", "running"].includes(stepState(state(), name).status),
    );
    const hints = open.flatMap(({ name, faster }) => (faster === null ? [] : [`${name}: ${faster}`]));
    site.report.warn(
      `half of the objective of ${clockText(objectiveMs)} is gone; ${open.length} steps remain${hints.length === 0 ? "" : `. Faster: ${hints.join("; ")}`}`,
    );
  };
  const show = (): void => {
    if (isHeld > 0) return;
    tellHalfOfAll();
    const parts = [...working.values()].map((one) => {
      const elapsedMs = nowMs() - one.startedMs;
      tellHalf(one, elapsedMs);
      return `${clockText(elapsedMs)} of ${clockText(one.step.budgetMs)}, about ${clockText(leftMs(one, elapsedMs, earlier))} left`;
    });
    if (parts.length === 0) return;
    const settled = runbook.steps.filter(
      ({ name }) => !["pending", "running"].includes(stepState(state(), name).status),
    );
    const remainsMs = objectiveMs - sinceIncidentMs();
    const remains =
      remainsMs >= 0
        ? `${clockText(remainsMs)} to the objective`
        : `${clockText(-remainsMs)} over the objective`;
    site.report.progress({
      task: [...working.keys()].join(" + "),
      done: settled.length,
      total: runbook.steps.length,
      unit: "steps",
      extra: `${parts.join(" + ")}, ${remains}`,
    });
  };
  const timer = setInterval(show, 1_000);
  timer.unref();
  return {
    begin: (step) => {
      working.set(step.name, { step, startedMs: nowMs(), share: null, isHalfTold: false });
      site.report.info(`step ${step.name}: ${step.purpose} (${clockText(step.budgetMs)})`);
    },
    end: (step) => {
      working.delete(step.name);
      site.report.progressEnd();
    },
    heard: (name, line) => {
      const one = working.get(name);
      const event = eventIn(line);
      if (!one || event === null) return;
      if (event.event === "warning") site.report.warn(`${name}: ${String(event.message)}`);
      const { done, total } = event;
      if (event.event === "progress" && typeof done === "number" && typeof total === "number" && total > 0)
        one.share = Math.min(1, done / total);
    },
    hold: async (ask) => {
      isHeld++;
      site.report.progressEnd();
      try {
        return await ask();
      } finally {
        isHeld--;
      }
    },
    stop: () => {
      clearInterval(timer);
      site.report.progressEnd();
    },
  };
}

function eventIn(line: string): Record<string, unknown> | null {
  if (!line.startsWith("{")) return null;
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return null; // a program's own words
  }
}
