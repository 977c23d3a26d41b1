import { nearest } from "./similar.js";

/** A recovery plan that a machine carries out and a person can read: typed steps, with the prose beside them. */
export interface Runbook {
  name: string;
  title: string;
  /** What somebody sees who needs it. */
  symptoms: string[];
  prose: string;
  budgetMs: number;
  variables: Record<string, Variable>;
  requires: Requirement[];
  /** The step after which the business is back: there the clock of the objective stops. Null: at the end. */
  backAfter: string | null;
  steps: Step[];
}

export interface Variable {
  about: string;
  /** Null: it must be given. */
  default: string | null;
  /** What it is in a drill; null: as otherwise. */
  drill: string | null;
}

export const REQUIREMENTS = ["tenants", "identity", "twoStorages", "configFiles"] as const;
export type Requirement = (typeof REQUIREMENTS)[number];

export const STEP_KINDS = [
  "check",
  "confirm",
  "restore",
  "start",
  "verify",
  "sql",
  "shell",
  "http",
  "notify",
  "manual",
  "jbackup",
] as const;
export type StepKind = (typeof STEP_KINDS)[number];

/** What a step does; its texts may hold ${variables}. Words are the arguments of a jbackup command. */
export type Action =
  | { kind: "check"; path: string; is: "absent" | "vacant" | "present" }
  | { kind: "check"; database: "reachable" | "down" }
  | { kind: "confirm"; text: string; type: string }
  | { kind: "restore" | "verify" | "jbackup"; words: string[] }
  | { kind: "start"; directory: string }
  | { kind: "sql"; query: string; expect: string | null }
  | { kind: "shell"; script: string }
  | { kind: "http"; url: string; status: number; contains: string | null }
  | { kind: "notify"; text: string }
  | { kind: "manual"; text: string; look: string };

export type FailurePolicy = { do: "stop" | "continue" | "ask" } | { do: "retry"; times: number };

export interface Step {
  name: string;
  purpose: string;
  budgetMs: number;
  needs: string[];
  action: Action;
  precheck: Action | null;
  verify: Action | null;
  undo: Action | null;
  onFailure: FailurePolicy;
  /** What it does in a drill; null: it is left out, and the report says so. */
  drill: "same" | Action | null;
  /** Whether it may be done once more when nobody knows whether it was done. */
  isRepeatable: boolean;
  /** What would speed it up: said when half its budget is gone. */
  faster: string | null;
}

export interface Problem {
  path: string;
  message: string;
}

/** Known in every run, without being declared. */
export const GIVEN_VARIABLES = ["site", "database", "incident", "run", "folder", "reason"];
/** Known in a drill only: the folder that jbackup makes for it. */
export const DRILL_VARIABLES = ["scratch"];

const VARIABLE = /\$\{([^}]*)\}/g;

const variablesIn = (text: string): string[] => [...text.matchAll(VARIABLE)].map(([, name]) => name ?? "");

export function fillIn(text: string, values: Record<string, string>): string {
  return text.replace(VARIABLE, (whole, name: string) => values[name] ?? whole);
}

export const textsOf = (action: Action): string[] =>
  Object.entries(action)
    .filter(([key]) => key !== "kind")
    .flatMap(([, value]) => (typeof value === "string" ? [value] : Array.isArray(value) ? value : []));

/** The same action with its variables filled in. */
export function filledAction<Kind extends Action>(action: Kind, values: Record<string, string>): Kind {
  const entries = Object.entries(action).map(([key, value]) => {
    if (key === "kind" || value === null || typeof value === "number") return [key, value];
    return [key, Array.isArray(value) ? value.map((word) => fillIn(word, values)) : fillIn(value, values)];
  });
  return Object.fromEntries(entries) as Kind;
}

/** What a step does now: in a drill that is another action, or none. */
export function actionOf(step: Step, isDrill: boolean): Action | null {
  if (!isDrill || step.drill === "same") return step.action;
  return step.drill;
}

/** Everything that is wrong with a runbook, whatever it is run against. */
export function lintRunbook(runbook: Runbook): Problem[] {
  const graph = [...doubledNames(runbook), ...unknownNeeds(runbook), ...cycles(runbook)];
  return [
    ...(runbook.steps.length === 0 ? [{ path: "steps", message: "there is no step" }] : []),
    ...graph,
    ...(runbook.backAfter === null || runbook.steps.some(({ name }) => name === runbook.backAfter)
      ? []
      : [{ path: "backAfter", message: `there is no step "${runbook.backAfter}"` }]),
    ...undefinedVariables(runbook),
    ...(graph.length > 0 ? [] : [...overBudget(runbook), ...unconfirmed(runbook)]),
  ];
}

const stepPath = (step: Step, key = ""): string => `step ${step.name}${key === "" ? "" : `: ${key}`}`;

function doubledNames({ steps }: Runbook): Problem[] {
  return steps
    .filter(({ name }, at) => steps.findIndex((step) => step.name === name) !== at)
    .map((step) => ({ path: stepPath(step), message: "two steps have this name" }));
}

function unknownNeeds({ steps }: Runbook): Problem[] {
  const names = steps.map(({ name }) => name);
  return steps.flatMap((step) =>
    step.needs
      .filter((need) => !names.includes(need))
      .map((need) => {
        const meant = nearest(need, names);
        return {
          path: stepPath(step, "needs"),
          message: `there is no step "${need}"${meant ? `; did you mean "${meant}"?` : ""}`,
        };
      }),
  );
}

/** Steps that wait for each other would wait for ever. */
function cycles({ steps }: Runbook): Problem[] {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const settled = new Set<string>();
  const found: string[][] = [];
  const walk = (name: string, trail: string[]): void => {
    if (settled.has(name)) return;
    const at = trail.indexOf(name);
    if (at >= 0) {
      found.push([...trail.slice(at), name]);
      return;
    }
    for (const need of byName.get(name)?.needs ?? []) walk(need, [...trail, name]);
    settled.add(name);
  };
  for (const { name } of steps) walk(name, []);
  return found.map((trail) => ({
    path: `step ${trail[0]}: needs`,
    message: `steps wait for each other: ${trail.join(" needs ")}`,
  }));
}

const PARTS = ["precheck", "verify", "undo"] as const;

function undefinedVariables(runbook: Runbook): Problem[] {
  const declared = [...GIVEN_VARIABLES, ...Object.keys(runbook.variables)];
  const check = (texts: string[], path: string, known: string[]): Problem[] =>
    [...new Set(texts.flatMap(variablesIn))]
      .filter((name) => !known.includes(name))
      .map((name) => {
        const meant = nearest(name, known);
        const hint = meant ? `; did you mean \${${meant}}?` : "; declare it below variables";
        return { path, message: `the variable \${${name}} is not defined${hint}` };
      });
  const inDrill = [...declared, ...DRILL_VARIABLES];
  return [
    ...Object.entries(runbook.variables).flatMap(([name, { default: usual, drill }]) => [
      ...check([usual ?? ""], `variables.${name}.default`, GIVEN_VARIABLES),
      ...check([drill ?? ""], `variables.${name}.drill`, [...GIVEN_VARIABLES, ...DRILL_VARIABLES]),
    ]),
    ...runbook.steps.flatMap((step) => [
      ...check(textsOf(step.action), stepPath(step, step.action.kind), declared),
      ...PARTS.flatMap((part) => {
        const action = step[part];
        return action === null ? [] : check(textsOf(action), stepPath(step, part), declared);
      }),
      ...(step.drill === null || step.drill === "same"
        ? []
        : check(textsOf(step.drill), stepPath(step, "drill"), inDrill)),
    ]),
  ];
}

/** The longest chain of steps that wait for each other: how long the whole takes when everything takes its budget. */
export function criticalPath({ steps }: Runbook): { names: string[]; budgetMs: number } {
  const byName = new Map(steps.map((step) => [step.name, step]));
  const known = new Map<string, { names: string[]; budgetMs: number }>();
  const longest = (name: string): { names: string[]; budgetMs: number } => {
    const before = known.get(name);
    if (before) return before;
    const step = byName.get(name);
    const waits = (step?.needs ?? []).map(longest).sort((a, b) => b.budgetMs - a.budgetMs)[0];
    const path = {
      names: [...(waits?.names ?? []), name],
      budgetMs: (waits?.budgetMs ?? 0) + (step?.budgetMs ?? 0),
    };
    known.set(name, path);
    return path;
  };
  return steps
    .map(({ name }) => longest(name))
    .reduce((most, path) => (path.budgetMs > most.budgetMs ? path : most), { names: [], budgetMs: 0 });
}

const minutes = (ms: number): string => `${Math.round(ms / 6_000) / 10} min`;

function overBudget(runbook: Runbook): Problem[] {
  const { names, budgetMs } = criticalPath(runbook);
  if (budgetMs <= runbook.budgetMs) return [];
  return [
    {
      path: "budget",
      message: `the steps ${names.join(", ")} take ${minutes(budgetMs)} one after the other, more than the ${minutes(runbook.budgetMs)} of the runbook`,
    },
  ];
}

/** Every step that must have ended before this one begins. */
export function before(runbook: Runbook, name: string): Set<string> {
  const found = new Set<string>();
  const walk = (at: string): void => {
    for (const need of runbook.steps.find((step) => step.name === at)?.needs ?? []) {
      if (found.has(need)) continue;
      found.add(need);
      walk(need);
    }
  };
  walk(name);
  return found;
}

/** What overwrites data is never begun before somebody has typed the name of it. */
function unconfirmed(runbook: Runbook): Problem[] {
  return runbook.steps
    .filter(({ action }) => "words" in action && action.words.includes("--confirm"))
    .filter(({ name }) => {
      const earlier = before(runbook, name);
      return !runbook.steps.some((step) => step.action.kind === "confirm" && earlier.has(step.name));
    })
    .map((step) => ({
      path: stepPath(step),
      message: "it overwrites data and needs no confirm step before it",
    }));
}
