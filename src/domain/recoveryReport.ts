import { type Block, type Document, htmlText, markdownText, spanText } from "./document.js";
import type { Runbook } from "./runbook.js";
import { type Evidence, type RunState, stepState } from "./runbookRun.js";
import { parseInstant } from "./time.js";

export { spanText } from "./document.js";

/** What is kept of a run for those who ask later: what was done, when, by whom, and what proves it. */
export interface RecoveryReport {
  id: string;
  runbook: string;
  title: string;
  drill: boolean;
  status: "running" | "stopped" | "succeeded" | "aborted";
  incidentAt: string;
  startedAt: string;
  finishedAt: string | null;
  by: string[];
  rtoMs: number | null;
  rpoMs: number | null;
  objectives: { rtoMs: number; rpoMs: number };
  /** Which objectives were missed. */
  missed: ("rto" | "rpo")[];
  values: Record<string, string>;
  steps: {
    name: string;
    purpose: string;
    status: string;
    startedAt: string | null;
    finishedAt: string | null;
    durationMs: number | null;
    budgetMs: number;
    attempts: number;
    evidence: Evidence[];
    error: string | null;
    undone: boolean;
  }[];
  decisions: RunState["decisions"];
  notRun: { step: string; why: string }[];
}

export interface Objectives {
  rtoMs: number;
  rpoMs: number;
}

const missedOf = (state: RunState, objectives: Objectives): ("rto" | "rpo")[] =>
  (["rto", "rpo"] as const).filter((one) => {
    const measured = one === "rto" ? state.rtoMs : state.rpoMs;
    return measured !== null && measured > (one === "rto" ? objectives.rtoMs : objectives.rpoMs);
  });

const WHY: Record<string, string> = {
  pending: "the run ended before it",
  skipped: "the runbook gives it nothing to do in a drill",
  running: "it had begun when the run ended",
};

export function reportOf(runbook: Runbook, state: RunState, objectives: Objectives): RecoveryReport {
  const steps = runbook.steps.map(({ name, purpose, budgetMs }) => {
    const { status, startedAt, finishedAt, durationMs, attempts, evidence, error, isUndone } = stepState(
      state,
      name,
    );
    return {
      name,
      purpose,
      status,
      startedAt,
      finishedAt,
      durationMs,
      budgetMs,
      attempts,
      evidence,
      error,
      undone: isUndone,
    };
  });
  const { phase } = state;
  return {
    id: state.run,
    runbook: runbook.name,
    title: runbook.title,
    drill: state.isDrill,
    status: phase === "new" || phase === "aborting" ? "running" : phase,
    incidentAt: state.incidentAt,
    startedAt: state.startedAt,
    finishedAt: state.endedAt,
    by: state.by,
    rtoMs: state.rtoMs,
    rpoMs: state.rpoMs,
    objectives,
    missed: missedOf(state, objectives),
    values: state.values,
    steps,
    decisions: state.decisions,
    notRun: steps.flatMap(({ name, status }) => {
      const why = WHY[status];
      return why === undefined ? [] : [{ step: name, why }];
    }),
  };
}

const BEGINS_AS_TIME = /^\d{4}-\d\d-\d\d[T ]\d\d:/;

/** The latest of those that are a time. Positions in the WAL, names of restore points and what is written for people are none. */
export function latestMoment(texts: readonly unknown[]): string | null {
  const times = texts.flatMap((text) => {
    if (typeof text !== "string" || !BEGINS_AS_TIME.test(text)) return [];
    const parsed = parseInstant(text, new Date(0));
    return parsed.ok ? [parsed.at.getTime()] : [];
  });
  return times.length === 0 ? null : new Date(Math.max(...times)).toISOString();
}

/** When the business was back, and how much of its work was lost. */
export function measure(
  runbook: Runbook,
  state: RunState,
  endedAt: string,
): { rtoMs: number; rpoMs: number | null } {
  const { backAfter } = runbook;
  const backAt = (backAfter === null ? null : stepState(state, backAfter).finishedAt) ?? endedAt;
  const incidentMs = Date.parse(state.incidentAt);
  const recovered = latestMoment(
    [...state.steps.values()].flatMap(({ evidence }) => evidence.map(({ facts }) => facts?.recoveredTo)),
  );
  return {
    rtoMs: Math.max(0, Date.parse(backAt) - incidentMs),
    rpoMs: recovered === null ? null : Math.max(0, incidentMs - Date.parse(recovered)),
  };
}

/** Restores that found everything as it was to become: nothing was brought back by them. */
export const changedNothing = ({ steps }: Pick<RecoveryReport, "steps">): string[] =>
  steps
    .filter(({ evidence }) => evidence.some(({ facts }) => facts?.changedRows === 0))
    .map(({ name }) => name);

const verdict = (report: RecoveryReport, which: "rto" | "rpo"): string => {
  const measured = which === "rto" ? report.rtoMs : report.rpoMs;
  const wanted = which === "rto" ? report.objectives.rtoMs : report.objectives.rpoMs;
  if (measured === null) return "not measured";
  return `${spanText(measured)} (objective ${spanText(wanted)}: ${measured > wanted ? "missed" : "met"})`;
};

/** The report as blocks, which either form of text is made of. */
function blocksOf(report: RecoveryReport): Block[] {
  const section = (text: string, items: string[], none: string): Block[] => [
    { kind: "heading", text },
    { kind: "list", items: items.length === 0 ? [none] : items },
  ];
  return [
    {
      kind: "list",
      items: [
        `Run ${report.id} of the runbook ${report.runbook}${report.drill ? ", a drill" : ""}`,
        `Status: ${report.status}`,
        `Incident: ${report.incidentAt}`,
        `Began: ${report.startedAt}, ended: ${report.finishedAt ?? "not yet"}`,
        `By: ${report.by.join(", ")}`,
        `Time to recover (RTO): ${verdict(report, "rto")}`,
        `Work lost (RPO): ${verdict(report, "rpo")}`,
      ],
    },
    { kind: "heading", text: "Timeline" },
    {
      kind: "table",
      head: ["Began", "Step", "Purpose", "Status", "Took", "Budget", "Tries"],
      rows: report.steps.map((step) => [
        step.startedAt ?? "",
        step.name,
        step.purpose,
        step.undone ? `${step.status}, taken back` : step.status,
        step.durationMs === null ? "" : spanText(step.durationMs),
        spanText(step.budgetMs),
        String(step.attempts),
      ]),
    },
    ...section(
      "Decisions",
      report.decisions.map(({ at, by, question, answer }) => `${at} ${by}: ${question} - ${answer}`),
      "None had to be taken.",
    ),
    ...section(
      "Evidence",
      report.steps.flatMap(({ name, evidence, error }) => [
        ...evidence.map(({ what, text, facts }) =>
          [`${name}: ${what}: ${text}`, facts === undefined ? "" : JSON.stringify(facts)]
            .filter(Boolean)
            .join(" "),
        ),
        ...(error === null ? [] : [`${name}: failed: ${error}`]),
      ]),
      "There is none.",
    ),
    ...section(
      "Steps not run",
      report.notRun.map(({ step, why }) => `${step}: ${why}`),
      "All were run.",
    ),
  ];
}

const titleOf = ({ title, drill }: RecoveryReport): string => `${drill ? "Drill" : "Recovery"}: ${title}`;

const documentOf = (report: RecoveryReport): Document => ({
  title: titleOf(report),
  blocks: blocksOf(report),
});

export const markdownOf = (report: RecoveryReport): string => markdownText(documentOf(report));
export const htmlOf = (report: RecoveryReport): string => htmlText(documentOf(report));
