import { expect, test } from "vitest";
import { parseRunbook } from "../../src/config/runbooks.js";
import { lintDrill } from "../../src/domain/drillGuard.js";
import { lintRunbook } from "../../src/domain/runbook.js";

const HEAD = `name: water
title: Water in the cellar
symptoms: [wet feet]
prose: Breathe.
budget: 30m
`;

const runbookOf = (body: string) =>
  parseRunbook({ file: "/books/water.yaml", text: `${HEAD}${body}`, hash: "h" }).runbook;

const problemsOf = (steps: string, more = ""): string[] =>
  lintRunbook(runbookOf(`${more}steps:\n${steps}`)).map(({ path, message }) => `${path}: ${message}`);

const step = (name: string, rest: string): string => `  - {name: ${name}, purpose: p, budget: 5m, ${rest}}\n`;

test("a step does one thing, and waits for the one above it unless it says for which", () => {
  const { steps, budgetMs } = runbookOf(
    `steps:\n${step("look", "check: {path: /x, is: vacant}")}${step("ask", "verify: latest --level stored, verify: {sql: {query: select 1}}").replace("verify: {", "undo: {")}${step("free", "needs: [], jbackup: [list, --json], onFailure: retry 3")}`,
  );
  expect(budgetMs).toBe(1_800_000);
  expect(steps.map(({ needs }) => needs)).toEqual([[], ["look"], []]);
  expect(steps[0]).toMatchObject({ action: { kind: "check", path: "/x", is: "vacant" }, isRepeatable: true });
  expect(steps[1]).toMatchObject({
    action: { kind: "verify", words: ["latest", "--level", "stored"] },
    verify: null,
    undo: { kind: "sql", query: "select 1", expect: null },
  });
  expect(steps[2]).toMatchObject({ onFailure: { do: "retry", times: 3 }, isRepeatable: false, drill: null });
});

test.each([
  [
    "an unknown kind",
    step("a", "restor: latest"),
    'line 7: steps[0].restor: unknown step kind "restor"; did you mean "restore"?',
  ],
  [
    "no budget",
    "  - {name: a, purpose: p, sql: {query: select 1}}\n",
    "line 7: steps[0].budget: step a has no budget: how long it may take, such as 5m",
  ],
  [
    "two kinds",
    step("a", "shell: ls, notify: hello"),
    "line 7: steps[0]: does one thing at a time, and this names shell and notify",
  ],
  [
    "no kind",
    step("a", "onFailure: ask"),
    "line 7: steps[0]: says nothing to do; kinds are check, confirm, restore, start, verify, sql, shell, http, notify, manual, jbackup",
  ],
  [
    "a wrong policy",
    step("a", "shell: ls, onFailure: shrug"),
    "line 7: steps[0].onFailure: expected stop, continue, ask or retry N (N from 1 to 9)",
  ],
])("a step with %s is refused", (_, steps, message) => {
  expect(() => runbookOf(`steps:\n${steps}`)).toThrow(`water.yaml has an error: ${message}`);
});

test("a file that is no YAML, and one that bears another name, are refused", () => {
  expect(() => runbookOf("steps: [\n")).toThrow("water.yaml has");
  const renamed = { file: "/books/fire.yaml", text: `${HEAD}steps:\n${step("a", "shell: ls")}`, hash: "h" };
  expect(() => parseRunbook(renamed)).toThrow(
    'fire.yaml has an error: line 1: name: the file is called fire, and the runbook "water"',
  );
  const both = { ...renamed, text: `${HEAD}steps:\n${step("a", "shel: ls")}` };
  expect(() => parseRunbook(both)).toThrow(
    /^fire.yaml has 2 errors:\n {2}line 1: name: .*\n {2}line 7: steps\[0\].shel: unknown step kind "shel"; did you mean "shell"\?$/,
  );
});

test("steps that wait for each other, for nobody, or bear one name are named", () => {
  expect(
    problemsOf(step("a", "needs: [c], shell: ls") + step("b", "shell: ls") + step("c", "shell: ls")),
  ).toEqual(["step a: needs: steps wait for each other: a needs c needs b needs a"]);
  expect(problemsOf(step("a", "shell: ls") + step("b", "needs: [aa], shell: ls"))).toEqual([
    'step b: needs: there is no step "aa"; did you mean "a"?',
  ]);
  expect(problemsOf(step("a", "shell: ls") + step("a", "needs: [], shell: ls"))).toEqual([
    "step a: two steps have this name",
  ]);
});

test("variables that nobody defines are named, with the one that was probably meant", () => {
  const variables = "variables: {directory: {about: where}}\n";
  expect(problemsOf(step("a", "start: {directory: '${directry}'}"), variables)).toEqual([
    "step a: start: the variable ${directry} is not defined; did you mean ${directory}?",
  ]);
  expect(problemsOf(step("a", "notify: '${scratch} and ${site}'"))).toEqual([
    "step a: notify: the variable ${scratch} is not defined; declare it below variables",
  ]);
});

test("the longest chain of budgets must fit into the runbook's", () => {
  const chain = ["a", "b", "c", "d", "e", "f", "g"].map((name) => step(name, "shell: ls")).join("");
  expect(problemsOf(chain)).toEqual([
    "budget: the steps a, b, c, d, e, f, g take 35 min one after the other, more than the 30 min of the runbook",
  ]);
  expect(problemsOf(chain.replace("name: d, ", "name: d, needs: [a], "))).toEqual([]);
});

test("what overwrites data needs somebody to have typed its name before", () => {
  const restore = "restore: latest --confirm shop";
  expect(problemsOf(step("a", restore))).toEqual([
    "step a: it overwrites data and needs no confirm step before it",
  ]);
  expect(problemsOf(step("ask", "confirm: {text: sure, type: shop}") + step("a", restore))).toEqual([]);
});

test.each([
  ["shell: rm -rf /", "a shell script can reach anything: nothing would hold it back in a drill"],
  ["restore: latest --into-dir /var/lib/pg", "it would write into /var/lib/pg, outside the drill's folder"],
  [
    "restore: [latest, --into-dir, /scratch/../etc]",
    "it would write into /scratch/../etc, outside the drill's folder",
  ],
  ["restore: [latest, --config, other.yaml]", "it names another configuration, and with it another database"],
  ["restore: --tenant 7", "it would store a safety backup of the drill's data: add --no-safety-backup"],
  ["jbackup: keys rotate", "jbackup keys rotate is none of the commands that change nothing"],
  ["jbackup: keys new --out /etc/keys", "it would write /etc/keys, outside the drill's folder"],
  ["verify: [--all, --heal]", "it would write to the storages"],
  ["start: {directory: /data}", "it would start a server in /data, outside the drill's folder"],
])("a drill would refuse %s", (action, why) => {
  const { path, message } = lintDrill(runbookOf(`steps:\n${step("a", `${action}, drill: same`)}`))[0] ?? {};
  expect(path).toMatch(/^step a: (shell|restore|jbackup|verify|start)$/);
  expect(message).toBe(`not in a drill: ${why}`);
});

test("a drill lets pass what stays in its folder", () => {
  const variables = "variables: {directory: {about: where, default: /data, drill: '${scratch}/data'}}\n";
  const steps =
    step("a", "restore: [latest, --into-dir, '${directory}'], drill: same") +
    step("b", "start: {directory: '${directory}'}, drill: same") +
    step("c", "shell: rm -rf /");
  expect(lintDrill(runbookOf(`${variables}steps:\n${steps}`))).toEqual([]);
});
