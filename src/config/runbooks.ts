import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { JBackupError, reasonOf } from "../domain/errors.js";
import {
  type Action,
  type FailurePolicy,
  REQUIREMENTS,
  type Runbook,
  STEP_KINDS,
  type Step,
} from "../domain/runbook.js";
import { nearest } from "../domain/similar.js";
import { parseDuration } from "../domain/time.js";
import { isPlain } from "./blanked.js";
import { duration, object, text, wholeNumber } from "./settings.js";
import { type KeyProblem, parseYaml, plainly } from "./yamlFile.js";

export interface RunbookFile {
  file: string;
  text: string;
  /** Of the text: a run goes on only with the runbook that it began with. */
  hash: string;
}

export interface LoadedRunbook extends RunbookFile {
  runbook: Runbook;
}

const slug = z
  .string("expected a name")
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/, "expected small letters, digits and dashes, such as restore-cluster");
const variableName = z.string().regex(/^[a-z][A-Za-z0-9]*$/, "expected a name such as dataDirectory");
const milliseconds = duration.transform((value) => parseDuration(value) ?? 0);

/** A command line, or its words: written as text, a variable is one word whatever it holds. */
const words = z.union([text.transform((line) => line.trim().split(/\s+/)), z.array(text).min(1)], {
  error: () => "expected the arguments of the command, as one text or as a list",
});

const check = z.union(
  [
    object({ path: text, is: z.enum(["absent", "vacant", "present"]) }),
    object({ database: z.enum(["reachable", "down"]) }),
  ],
  {
    error: () =>
      "expected {path: PATH, is: absent | vacant | present} or {database: reachable | down}; vacant is absent or empty",
  },
);

const ACTIONS = {
  check: check.transform((value): Action => ({ kind: "check", ...value })),
  confirm: object({ text, type: text }).transform((value): Action => ({ kind: "confirm", ...value })),
  restore: words.transform((value): Action => ({ kind: "restore", words: value })),
  start: object({ directory: text }).transform((value): Action => ({ kind: "start", ...value })),
  verify: words.transform((value): Action => ({ kind: "verify", words: value })),
  sql: object({ query: text, expect: z.union([text, z.number().transform(String)]).optional() }).transform(
    ({ query, expect }): Action => ({ kind: "sql", query, expect: expect ?? null }),
  ),
  shell: text.transform((script): Action => ({ kind: "shell", script })),
  http: object({
    url: text,
    status: wholeNumber(100, 599).default(200),
    contains: text.optional(),
  }).transform(
    ({ url, status, contains }): Action => ({ kind: "http", url, status, contains: contains ?? null }),
  ),
  notify: text.transform((value): Action => ({ kind: "notify", text: value })),
  manual: object({ text, look: text }).transform((value): Action => ({ kind: "manual", ...value })),
  jbackup: words.transform((value): Action => ({ kind: "jbackup", words: value })),
} satisfies Record<(typeof STEP_KINDS)[number], z.ZodType<Action>>;

/** A mapping with one key, which says what is done: `sql: {...}`. Answers the action, or says what is wrong. */
function actionIn(
  value: Record<string, unknown>,
  context: z.RefinementCtx,
  path: string[] = [],
): Action | undefined {
  const [kind, ...more] = Object.keys(value);
  if (kind === undefined || more.length > 0) {
    const message =
      kind === undefined
        ? `says nothing to do; kinds are ${STEP_KINDS.join(", ")}`
        : `does one thing at a time, and this names ${[kind, ...more].join(" and ")}`;
    context.addIssue({ code: "custom", message, path });
    return undefined;
  }
  const schema = ACTIONS[kind as keyof typeof ACTIONS] as z.ZodType<Action> | undefined;
  if (schema === undefined) {
    const meant = nearest(kind, STEP_KINDS);
    const message = `unknown step kind "${kind}"${meant ? `; did you mean "${meant}"?` : `; kinds are ${STEP_KINDS.join(", ")}`}`;
    context.addIssue({ code: "custom", message, path: [...path, kind] });
    return undefined;
  }
  const parsed = schema.safeParse(value[kind]);
  if (parsed.success) return parsed.data;
  for (const { message, path: inner } of parsed.error.issues)
    context.addIssue({ code: "custom", message, path: [...path, kind, ...inner] });
  return undefined;
}

const action = z
  .record(z.string(), z.unknown(), "expected what is to be done, such as {sql: {query: ...}}")
  .transform((value, context) => actionIn(value, context) ?? z.NEVER);

const onFailure = z.union(
  [
    z.enum(["stop", "continue", "ask"]).transform((how): FailurePolicy => ({ do: how })),
    z
      .string()
      .regex(/^retry [1-9]$/)
      .transform((how): FailurePolicy => ({ do: "retry", times: Number(how.slice(-1)) })),
  ],
  { error: () => "expected stop, continue, ask or retry N (N from 1 to 9)" },
);

const STEP_KEYS = {
  name: slug,
  purpose: text,
  budget: z.unknown().optional(),
  needs: z.array(slug).optional(),
  precheck: action.optional(),
  verify: z.unknown().optional(),
  undo: action.optional(),
  onFailure: onFailure.default({ do: "stop" }),
  drill: z
    .union([z.literal("same"), action], { error: () => "expected same, or what is done instead" })
    .optional(),
  repeatable: z.boolean("expected true or false").optional(),
  faster: text.optional(),
};

/** Which kinds may be done twice without harm; the others say so themselves. */
const REPEATABLE = ["check", "confirm", "restore", "start", "verify", "http", "notify", "manual"];

/** The keys that every step has, apart from the one that says what it does: `verify` is either. */
const step = z
  .record(z.string(), z.unknown(), "expected a step")
  .transform((value, context): Omit<Step, "needs"> & { needs: string[] | null } => {
    const isProof = typeof value.verify === "object" && value.verify !== null && !Array.isArray(value.verify);
    const common = new Set(Object.keys(STEP_KEYS).filter((key) => key !== "verify" || isProof));
    const split = (isCommon: boolean): Record<string, unknown> =>
      Object.fromEntries(Object.entries(value).filter(([key]) => common.has(key) === isCommon));
    const keys = z.object(STEP_KEYS).safeParse(split(true), { error: plainly });
    const does = actionIn(split(false), context);
    const proof = isProof ? actionIn(value.verify as Record<string, unknown>, context, ["verify"]) : null;
    const budget = milliseconds.safeParse(value.budget);
    const whose = typeof value.name === "string" ? `step ${value.name}` : "the step";
    if (!budget.success) {
      const message =
        value.budget === undefined
          ? `${whose} has no budget: how long it may take, such as 5m`
          : "expected a duration such as 5m";
      context.addIssue({ code: "custom", message, path: ["budget"] });
    }
    if (!keys.success)
      for (const { message, path } of keys.error.issues)
        context.addIssue({ code: "custom", message, path: [...path] });
    if (!keys.success || !budget.success || does === undefined || proof === undefined) return z.NEVER;
    const { name, purpose, needs, precheck, undo, drill, repeatable, faster } = keys.data;
    return {
      name,
      purpose,
      budgetMs: budget.data,
      needs: needs ?? null,
      action: does,
      precheck: precheck ?? null,
      verify: proof,
      undo: undo ?? null,
      onFailure: keys.data.onFailure,
      drill: drill ?? null,
      isRepeatable: repeatable ?? REPEATABLE.includes(does.kind),
      faster: faster ?? null,
    };
  });

const variable = object({ about: text, default: z.string().optional(), drill: text.optional() });

const runbookSchema = object({
  name: slug,
  title: text,
  symptoms: z.array(text).min(1, "at least one symptom is needed: it is how people find the runbook"),
  prose: text,
  budget: milliseconds,
  requires: z.array(z.enum(REQUIREMENTS, `expected some of ${REQUIREMENTS.join(", ")}`)).default([]),
  backAfter: slug.optional(),
  variables: z.record(variableName, variable).default({}),
  steps: z.array(step, "expected a list of steps").min(1, "at least one step is needed"),
});

const nameOf = (file: string): string => basename(file).replace(/\.ya?ml$/, "");

function nameProblems(content: unknown, expected: string): KeyProblem[] {
  const { data: name } = slug.safeParse(isPlain(content) ? content.name : undefined);
  if (name === undefined || name === expected) return [];
  return [{ path: ["name"], message: `the file is called ${expected}, and the runbook "${name}"` }];
}

/** Untrusted text to a runbook. What ties its parts together is lintRunbook's business. */
export function parseRunbook({ text: source, file, hash }: RunbookFile): LoadedRunbook {
  const hint = `correct ${file}, then run jbackup dr check`;
  const crossCheck = (content: unknown) => nameProblems(content, nameOf(file));
  const { value } = parseYaml(source, { file, schema: runbookSchema, hint, crossCheck });
  const { budget, steps, variables, ...rest } = value;
  const runbook: Runbook = {
    ...rest,
    budgetMs: budget,
    backAfter: value.backAfter ?? null,
    variables: Object.fromEntries(
      Object.entries(variables).map(([name, { about, default: usual, drill }]) => [
        name,
        { about, default: usual ?? null, drill: drill ?? null },
      ]),
    ),
    // a step that names nothing that it needs waits for the one above it
    steps: steps.map((one, at) => ({
      ...one,
      needs:
        one.needs ??
        steps
          .slice(0, at)
          .slice(-1)
          .map(({ name }) => name),
    })),
  };
  return { file, text: source, hash, runbook };
}

const hashOf = (source: string): string => createHash("sha256").update(source).digest("hex");

/** The runbook files of some folders; a later folder's file replaces an earlier one's of the same name. */
export async function findRunbooks(folders: string[]): Promise<RunbookFile[]> {
  const found = new Map<string, RunbookFile>();
  for (const folder of folders) {
    const names = await readdir(folder).catch((error: unknown) => {
      throw new JBackupError("config_invalid", `cannot read the runbooks in ${folder}: ${reasonOf(error)}`, {
        hint: "correct runbooks in the configuration: a list of folders",
        cause: error,
      });
    });
    for (const name of names.filter((entry) => /\.ya?ml$/.test(entry)).sort()) {
      const file = join(folder, name);
      const source = await readFile(file, "utf8");
      found.set(nameOf(name), { file, text: source, hash: hashOf(source) });
    }
  }
  return [...found.values()];
}
