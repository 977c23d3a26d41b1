import type { Action, Runbook } from "./runbook.js";
import { actionOf, filledAction, fillIn, type Problem } from "./runbook.js";

/** Commands that write to nothing but the drill's own server, catalog and folder. */
const HARMLESS = [
  "list",
  "show",
  "restores",
  "wal status",
  "tenants list",
  "tenants coverage",
  "tenants erase-check",
  "keys list",
  "keys test",
  "keys new",
  "catalog rebuild",
  "catalog migrate",
  "config show",
  "config validate",
  "audit show",
  "audit check",
];

const inside = (path: string, folder: string): boolean =>
  path.startsWith(`${folder}/`) && !path.split("/").includes("..");

/** The values of a flag, whether written `--flag value...` or `--flag=value`. */
function valuesOf(words: string[], flag: string): string[] {
  return words.flatMap((word, at) => {
    if (word.startsWith(`${flag}=`)) return [word.slice(flag.length + 1)];
    if (word !== flag) return [];
    const rest = words.slice(at + 1);
    const end = rest.findIndex((next) => next.startsWith("--"));
    return end < 0 ? rest : rest.slice(0, end);
  });
}

const has = (words: string[], flag: string): boolean =>
  words.some((word) => word === flag || word.startsWith(`${flag}=`));

/** Why an action, its variables filled in, must not be done in a drill; null when it can hurt nobody. */
export function drillDanger(action: Action, scratch: string): string | null {
  switch (action.kind) {
    case "shell":
      return "a shell script can reach anything: nothing would hold it back in a drill";
    case "start":
      return inside(action.directory, scratch)
        ? null
        : `it would start a server in ${action.directory}, outside the drill's folder`;
    case "restore":
      return wordsDanger(action.words) ?? restoreDanger(action.words, scratch);
    case "verify":
      return (
        wordsDanger(action.words) ?? (has(action.words, "--heal") ? "it would write to the storages" : null)
      );
    case "jbackup":
      return wordsDanger(action.words) ?? commandDanger(action.words, scratch);
    default:
      return null;
  }
}

function wordsDanger(words: string[]): string | null {
  return has(words, "--config") ? "it names another configuration, and with it another database" : null;
}

function restoreDanger(words: string[], scratch: string): string | null {
  const places = [
    ...valuesOf(words, "--into-dir"),
    ...valuesOf(words, "--tablespace").map((pair) => pair.slice(pair.indexOf("=") + 1)),
  ];
  const outside = places.find((place) => !inside(place, scratch));
  if (outside !== undefined) return `it would write into ${outside}, outside the drill's folder`;
  if (has(words, "--tenant") && !has(words, "--dry-run") && !has(words, "--no-safety-backup"))
    return "it would store a safety backup of the drill's data: add --no-safety-backup";
  return null;
}

function commandDanger(words: string[], scratch: string): string | null {
  const command = HARMLESS.find((known) => `${words.join(" ")} `.startsWith(`${known} `));
  if (command === undefined) return `jbackup ${words.join(" ")} is none of the commands that change nothing`;
  const outside = valuesOf(words, "--out").find((place) => !inside(place, scratch));
  if (outside !== undefined) return `it would write ${outside}, outside the drill's folder`;
  if (command === "keys new" && !has(words, "--out"))
    return "it would write outside the drill's folder: add --out";
  return null;
}

const SCRATCH = "/scratch";

/** What a drill of this runbook would refuse, told when it is checked rather than at night. */
export function lintDrill(runbook: Runbook): Problem[] {
  const values = Object.fromEntries(
    Object.entries(runbook.variables).map(([name, { drill, default: usual }]) => [
      name,
      drill ?? usual ?? "",
    ]),
  );
  const filled = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, fillIn(value, { scratch: SCRATCH })]),
  );
  return runbook.steps.flatMap((step) => {
    const action = actionOf(step, true);
    if (action === null) return [];
    const parts = [
      [step.drill === "same" ? step.action.kind : "drill", action] as const,
      ...(step.precheck === null ? [] : [["precheck", step.precheck] as const]),
      ...(step.verify === null ? [] : [["verify", step.verify] as const]),
      ...(step.undo === null ? [] : [["undo", step.undo] as const]),
    ];
    return parts.flatMap(([part, one]) => {
      const danger = drillDanger(filledAction(one, { ...filled, scratch: SCRATCH }), SCRATCH);
      return danger === null
        ? []
        : [{ path: `step ${step.name}: ${part}`, message: `not in a drill: ${danger}` }];
    });
  });
}
