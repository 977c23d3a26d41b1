import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Runbook, Step } from "../../src/domain/runbook.js";
import {
  advance,
  movesFrom,
  type RunEvent,
  type RunState,
  replay,
  stepState,
  undoOrder,
} from "../../src/domain/runbookRun.js";

const at = "2026-11-25T02:00:00.000Z";

const stepOf = (name: string, more: Partial<Step> = {}): Step => ({
  name,
  purpose: name,
  budgetMs: 1_000,
  needs: [],
  action: { kind: "shell", script: name },
  precheck: null,
  verify: null,
  undo: null,
  onFailure: { do: "stop" },
  drill: null,
  isRepeatable: true,
  faster: null,
  ...more,
});

const bookOf = (steps: Step[]): Runbook => ({
  name: "book",
  title: "",
  symptoms: [],
  prose: "",
  budgetMs: 60_000,
  variables: {},
  requires: [],
  backAfter: null,
  steps,
});

const started: RunEvent = {
  at,
  type: "started",
  run: "r",
  runbook: "book",
  hash: "h",
  isDrill: false,
  values: {},
  incidentAt: at,
  by: "ann@db",
};
const begin = (step: string, attempt = 1): RunEvent => ({ at, type: "step-started", step, attempt });
const finish = (step: string, outcome: "done" | "failed" = "done"): RunEvent => ({
  at,
  type: "step-finished",
  step,
  outcome,
  durationMs: 1,
  evidence: [],
  error: null,
});
const resumed: RunEvent = { at, type: "resumed", by: "bob@db" };

const names = (steps: Step[]): string[] => steps.map(({ name }) => name);

test("steps begin when those that they need have ended, side by side", () => {
  const book = bookOf([stepOf("a"), stepOf("b"), stepOf("c", { needs: ["a", "b"] })]);
  expect(names(movesFrom(book, replay([started])).begin)).toEqual(["a", "b"]);
  const one = replay([started, begin("a"), begin("b"), finish("a")]);
  expect(names(movesFrom(book, one, new Set(["b"])).begin)).toEqual([]);
  expect(names(movesFrom(book, advance(one, finish("b"))).begin)).toEqual(["c"]);
});

test("after a failure nothing new begins, and a resume tries it again", () => {
  const book = bookOf([stepOf("a"), stepOf("b")]);
  const failed = replay([started, begin("a"), finish("a", "failed")]);
  expect(movesFrom(book, failed).begin).toEqual([]);
  const again = advance(failed, resumed);
  expect(names(movesFrom(book, again).begin)).toEqual(["a", "b"]);
  expect(again.by).toEqual(["ann@db", "bob@db"]);
});

test("an abort takes back what was begun, last first, once", () => {
  const undo = { kind: "shell", script: "undo" } as const;
  const book = bookOf([stepOf("a", { undo }), stepOf("b"), stepOf("c", { undo }), stepOf("d", { undo })]);
  const later = { ...begin("c"), at: "2026-11-25T02:01:00.000Z" };
  const state = replay([started, begin("a"), finish("a"), begin("b"), finish("b"), later]);
  expect(names(undoOrder(book, state))).toEqual(["c", "a"]);
  expect(names(undoOrder(book, advance(state, { at, type: "step-undone", step: "c", error: null })))).toEqual(
    ["a"],
  );
});

/** Runbooks of up to eight steps, each needing some of those before it. */
const anyBook = fc
  .array(fc.record({ needs: fc.array(fc.nat(7), { maxLength: 3 }), isRepeatable: fc.boolean() }), {
    minLength: 1,
    maxLength: 8,
  })
  .map((steps) =>
    bookOf(
      steps.map(({ needs, isRepeatable }, index) =>
        stepOf(`s${index}`, {
          isRepeatable,
          needs: [...new Set(needs.filter((need) => need < index).map((need) => `s${need}`))],
        }),
      ),
    ),
  );

/** Carries a runbook out, in any order that it allows; dies after so many events. Answers false when it died. */
function carryOn(
  book: Runbook,
  journal: RunEvent[],
  done: string[],
  choose: () => number,
  eventsLeft: number,
): boolean {
  let state: RunState = replay(journal);
  let left = eventsLeft;
  const atWork = new Set<string>();
  const write = (event: RunEvent): boolean => {
    if (left-- <= 0) return false;
    journal.push(event);
    state = advance(state, event);
    return true;
  };
  const order = new Map(book.steps.map(({ name, needs }) => [name, needs]));
  if (!write(journal.length === 0 ? started : resumed)) return false;
  for (;;) {
    const moves = movesFrom(book, state, atWork);
    for (const step of moves.doubtful) {
      // somebody looks whether it was done, and says so
      if (done.includes(step.name)) {
        if (!write(finish(step.name))) return false;
      } else {
        if (!write(begin(step.name, 2))) return false;
        atWork.add(step.name);
      }
    }
    for (const { name } of moves.begin) {
      expect(order.get(name)?.every((need) => stepState(state, need).status === "done")).toBe(true);
      if (!write(begin(name))) return false;
      atWork.add(name);
    }
    const working = [...atWork];
    if (working.length === 0) {
      // what was said to be done may let others begin
      if (moves.doubtful.length > 0) continue;
      return true;
    }
    const name = working[choose() % working.length] ?? "";
    done.push(name);
    if (!write(finish(name))) return false;
    atWork.delete(name);
  }
}

describe("a run that dies after any event and is resumed, again and again", () => {
  test("does every step, in an order that it allows, and nothing twice that is not repeatable", () => {
    fc.assert(
      fc.property(
        anyBook,
        fc.array(fc.nat(20), { maxLength: 6 }),
        fc.infiniteStream(fc.nat(100)),
        (book, deaths, choices) => {
          const journal: RunEvent[] = [];
          const done: string[] = [];
          const choose = (): number => choices.next().value as number;
          for (const events of deaths) if (carryOn(book, journal, done, choose, events)) break;
          expect(carryOn(book, journal, done, choose, Number.POSITIVE_INFINITY)).toBe(true);
          const state = replay(journal);
          expect(movesFrom(book, state)).toEqual({ begin: [], doubtful: [], isComplete: true });
          for (const { name, isRepeatable } of book.steps) {
            const times = done.filter((one) => one === name).length;
            if (isRepeatable) expect(times).toBeGreaterThanOrEqual(1);
            else expect(times).toBe(1);
            const finished = journal.filter((event) => event.type === "step-finished" && event.step === name);
            expect(finished).toHaveLength(1);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
