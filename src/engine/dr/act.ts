import { readdir } from "node:fs/promises";
import { ERROR_CODES, type ErrorCode, JBackupError } from "../../domain/errors.js";
import { latestMoment } from "../../domain/recoveryReport.js";
import type { Action } from "../../domain/runbook.js";
import type { Evidence } from "../../domain/runbookRun.js";
import type { EndedProgram } from "../../sys/aside.js";
import { tellNotice } from "../alerts/outbox.js";
import type { Site } from "../site.js";
import { type Ground, isReachable, type Watcher } from "./ground.js";
import type { Operator } from "./operator.js";

export interface ActContext {
  site: Site;
  ground: Ground;
  operator: Operator;
  step: string;
  run: string;
  watcher: Watcher;
}

/** Does one thing and answers what was seen; throws when it cannot be done, or when it does not hold. What is told goes into journal and reports, so no secret may be in it. */
export async function act(action: Action, context: ActContext): Promise<Evidence> {
  const { redact } = context.site;
  try {
    return redact(await done(action, context));
  } catch (error) {
    if (!(error instanceof JBackupError)) throw error;
    const { code, message, hint, details, cause } = error;
    throw new JBackupError(code, redact(message), {
      cause,
      ...(hint === undefined ? {} : { hint: redact(hint) }),
      ...(details === undefined ? {} : { details: redact(details) }),
    });
  }
}

async function done(action: Action, context: ActContext): Promise<Evidence> {
  const { ground, operator, step } = context;
  ground.admit(action);
  switch (action.kind) {
    case "check":
      return check(action, ground);
    case "confirm":
      return { what: "confirmed", text: await operator.confirm(step, action.text, action.type) };
    case "manual":
      return { what: "done by hand", text: await operator.byHand(step, action.text, action.look) };
    case "restore":
      return restore(action.words, context);
    case "verify":
      return jbackup(["verify", ...action.words], context);
    case "jbackup":
      return jbackup(action.words, context);
    case "start":
      await ground.start(action.directory);
      return { what: "started", text: `a server runs on ${action.directory}` };
    case "sql":
      return sql(action, ground);
    case "shell":
      return shell(action.script, context);
    case "http":
      return http(action, context.site.signal);
    case "notify":
      return notify(action.text, context);
  }
}

const failed = (code: ErrorCode, message: string): JBackupError => new JBackupError(code, message);

async function check(action: Action & { kind: "check" }, ground: Ground): Promise<Evidence> {
  if ("database" in action) {
    const found = (await isReachable(ground)) ? "reachable" : "down";
    if (found !== action.database) throw failed("verification_failed", `the database is ${found}`);
    return { what: "looked", text: `the database is ${found}` };
  }
  const names = await readdir(action.path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    if (error.code === "ENOTDIR") return ["a file"];
    throw error;
  });
  const found = names === null ? "absent" : names.length === 0 ? "empty" : "present";
  const holds =
    action.is === "vacant" ? found !== "present" : (action.is === "absent") === (found === "absent");
  if (!holds) throw failed("verification_failed", `${action.path} is ${found}, and must be ${action.is}`);
  return { what: "looked", text: `${action.path} is ${found}` };
}

async function sql({ query, expect }: Action & { kind: "sql" }, ground: Ground): Promise<Evidence> {
  const session = await ground.session();
  try {
    const [row] = await session.rows<Record<string, string | null>>(query);
    const found = row === undefined ? "no row" : (Object.values(row)[0] ?? "null");
    if (expect !== null && found !== expect)
      throw failed("verification_failed", `expected ${expect}, and the query answered ${found}`);
    return { what: query, text: found };
  } finally {
    await session.close();
  }
}

const tail = (text: string): string => text.trim().split("\n").slice(-4).join("; ").slice(0, 1_000);

async function shell(script: string, { site, ground, watcher }: ActContext): Promise<Evidence> {
  const ended = await ground.shell(script, watcher);
  site.signal.throwIfAborted();
  if (ended.code !== 0)
    throw failed(
      "tool_failed",
      `the script ended with ${ended.signal ?? `code ${ended.code}`}: ${tail(ended.stderr) || "it printed nothing"}`,
    );
  return { what: script, text: tail(ended.stdout) };
}

const HTTP_MS = 10_000;

async function http(action: Action & { kind: "http" }, signal: AbortSignal): Promise<Evidence> {
  const { url, status, contains } = action;
  let response: Response;
  let body: string;
  try {
    response = await fetch(url, {
      redirect: "manual",
      signal: AbortSignal.any([signal, AbortSignal.timeout(HTTP_MS)]),
    });
    body = await response.text();
  } catch (error) {
    signal.throwIfAborted();
    const cause =
      error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new JBackupError("verification_failed", `${url} does not answer: ${cause}`, { cause: error });
  }
  if (response.status !== status)
    throw failed("verification_failed", `${url} answered ${response.status}, and not ${status}`);
  if (contains !== null && !body.includes(contains))
    throw failed("verification_failed", `the answer of ${url} does not contain "${contains}"`);
  return { what: `asked ${url}`, text: `${response.status}, ${body.length} characters` };
}

async function notify(text: string, { site, ground, run }: ActContext): Promise<Evidence> {
  if (ground.isDrill) return { what: "would have told", text };
  const notice = { message: text, hint: `jbackup dr report ${run}`, fingerprint: `dr:notice:${run}` };
  const told = await tellNotice(site, notice);
  return { what: told.length === 0 ? "noted: no channel is configured" : `told ${told.join(", ")}`, text };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function documentOf({ stdout, code, signal, stderr }: EndedProgram, command: string): unknown {
  try {
    return JSON.parse(stdout);
  } catch (error) {
    const how = signal ?? `code ${code}`;
    throw new JBackupError("failed", `jbackup ${command} ended with ${how} and no answer: ${tail(stderr)}`, {
      cause: error,
    });
  }
}

/** One jbackup command in a process of its own; its answer, or its failure as if it had happened here. */
async function answerOf(words: string[], { site, ground, watcher }: ActContext): Promise<unknown> {
  const command = words.slice(0, 2).join(" ");
  const ended = await ground.jbackup(words, watcher);
  site.signal.throwIfAborted();
  const answer = documentOf(ended, command);
  if (ended.code === 0) return answer;
  const error = isObject(answer) && isObject(answer.error) ? answer.error : {};
  const code = String(error.code) in ERROR_CODES ? (String(error.code) as ErrorCode) : codeFor(ended.code);
  const why = typeof error.message === "string" ? error.message : `it ended with code ${ended.code}`;
  throw new JBackupError(code, `jbackup ${command}: ${why}`, {
    ...(typeof error.hint === "string" ? { hint: error.hint } : {}),
  });
}

/** Commands answer in part, or find problems, without failing. */
const codeFor = (exit: number | null): ErrorCode =>
  exit === 4 ? "verification_failed" : exit === 3 ? "partial" : "failed";

const LONGEST_FACTS = 4_000;

function factsOf(answer: unknown): Record<string, unknown> {
  if (Array.isArray(answer)) return { entries: answer.length };
  if (!isObject(answer)) return {};
  if (JSON.stringify(answer).length <= LONGEST_FACTS) return answer;
  return Object.fromEntries(
    Object.entries(answer).filter(([, value]) => typeof value !== "object" || value === null),
  );
}

async function jbackup(words: string[], context: ActContext): Promise<Evidence> {
  const facts = factsOf(await answerOf(words, context));
  return { what: `jbackup ${words.join(" ")}`, text: "done", facts };
}

export const restoreReason = (run: string, step: string): string => `runbook run ${run}, step ${step}`;

const AS_IT_WAS = "what is there now is what was there at that moment";

async function restore(words: string[], context: ActContext): Promise<Evidence> {
  const reason = restoreReason(context.run, context.step);
  const isRehearsal = words.includes("--dry-run");
  const all = ["restore", ...words, ...(isRehearsal ? [] : ["--reason", reason])];
  const answer = await answerOf(all, context);
  const changedRows = words.includes("--tenant") ? rowsChanged(answer) : null;
  if (isRehearsal && changedRows === 0 && !context.ground.isDrill)
    throw new JBackupError("verification_failed", `no row would be changed: ${AS_IT_WAS}`, {
      hint: "end this run with jbackup dr run --abort, and begin again with a moment before the damage",
    });
  const what = `jbackup ${all.join(" ")}`;
  const facts = factsOf(answer);
  if (isRehearsal) return { what, text: "done", facts };
  const recoveredTo = await recoveredMoment(words, answer, context);
  return {
    what,
    text: changedRows === 0 ? `done, and no row was changed: ${AS_IT_WAS}` : "done",
    facts: { ...facts, recoveredTo, ...(changedRows === null ? {} : { changedRows }) },
  };
}

/** Rows that a tenant's restore writes or deletes, by the plan or by the answer. */
export function rowsChanged(answer: unknown): number {
  if (!isObject(answer)) return 0;
  const plans = Array.isArray(answer.plans) ? answer.plans : [answer];
  return plans
    .flatMap((plan) => (isObject(plan) && Array.isArray(plan.tables) ? plan.tables : []))
    .flatMap((table) => (isObject(table) ? [table.inserted, table.updated, table.deleted] : []))
    .reduce((sum: number, many) => sum + (typeof many === "number" ? many : 0), 0);
}

/** The last moment that the restored data is known to hold; null when nobody can tell. */
async function recoveredMoment(
  words: string[],
  answer: unknown,
  context: ActContext,
): Promise<string | null> {
  const told = isObject(answer) ? answer : {};
  const metadata = isObject(told.metadata) ? told.metadata : {};
  const moments: unknown[] = [metadata.lastCommitAt, told.targetTime];
  if (words[words.indexOf("--to") + 1] === "latest" && words.includes("--to")) {
    // on a quiet site the last commit is old, and yet everything that came after it would be here
    const { stdout } = await context.ground.jbackup(["wal", "status"], context.watcher);
    const window = (JSON.parse(stdout) as { window?: { to: { at: string } } | null }).window;
    if (window) moments.push(window.to.at);
  }
  return latestMoment(moments);
}

/** A restore whose run died may have ended all the same: the catalog knows. */
export async function finishedRestore(words: string[], context: ActContext): Promise<Evidence | null> {
  const answer = await answerOf(["restores", "--status", "completed"], context);
  const reason = restoreReason(context.run, context.step);
  const found = (Array.isArray(answer) ? answer : []).find(
    (one: unknown) => isObject(one) && one.reason === reason,
  );
  if (found === undefined) return null;
  const recoveredTo = await recoveredMoment(words, found, context);
  const text = `the restore ${found.id} had ended before`;
  return { what: "found done", text, facts: { ...factsOf(found), recoveredTo } };
}
