import { resolve } from "node:path";
import type { LoadedRunbook, RunbookFile } from "../../config/config.js";
import { drillDanger, lintDrill } from "../../domain/drillGuard.js";
import { JBackupError } from "../../domain/errors.js";
import {
  filledAction,
  fillIn,
  lintRunbook,
  type Problem,
  type Requirement,
  type Runbook,
} from "../../domain/runbook.js";
import { nearest } from "../../domain/similar.js";
import type { Site } from "../site.js";

/** The file of the runbook of this name. */
export async function findRunbook(site: Site, name: string): Promise<RunbookFile> {
  const files = await site.runbookFiles();
  const names = files.map(({ file }) => file.slice(file.lastIndexOf("/") + 1).replace(/\.ya?ml$/, ""));
  const found = files[names.indexOf(name)];
  if (found !== undefined) return found;
  const meant = nearest(name, names);
  throw new JBackupError(
    "not_found",
    `there is no runbook "${name}"${meant ? `; did you mean "${meant}"?` : ""}`,
    { hint: `there are ${names.join(", ")}: jbackup dr list tells when each is the right one` },
  );
}

/** The runbook of this name, read and found to be right. */
export async function loadRunbook(site: Site, name: string): Promise<LoadedRunbook> {
  const loaded = await site.parseRunbook(await findRunbook(site, name));
  const { file, runbook } = loaded;
  const problems = problemsOf(runbook);
  if (problems.length > 0)
    throw new JBackupError("config_invalid", `the runbook ${name} cannot be run: ${problemText(problems)}`, {
      hint: `correct ${file}, then run jbackup dr check`,
      details: { file, problems },
    });
  const lacking = lackingFor(site, runbook);
  if (lacking.length === 0) return loaded;
  const why = lacking.map((needed) => NEEDED[needed].message).join("; ");
  throw new JBackupError("config_invalid", `the runbook ${name} cannot be run here: ${why}`, {
    hint: `${lacking.map((needed) => NEEDED[needed].hint).join("; ")}, then run jbackup dr check`,
  });
}

export const problemText = (problems: Problem[]): string =>
  problems.map(({ path, message }) => `${path}: ${message}`).join("; ");

interface Need {
  has(site: Site): boolean;
  message: string;
  hint: string;
  /** Whether a site without it simply has no such disaster. */
  isOptional: boolean;
}

const NEEDED: Record<Requirement, Need> = {
  tenants: {
    has: ({ config }) => config.tenants !== undefined,
    message: "the configuration names no tenants",
    hint: "say in jbackup.yaml whose rows are whose (tenants: {table: ...})",
    isOptional: true,
  },
  identity: {
    has: ({ config }) => config.keys.generatedIn !== null || config.keys.identities.length > 0,
    message: "the configuration names no identity, and without one no backup can be opened",
    hint: "name the identity of the recovery kit as keys.identity in jbackup.yaml",
    isOptional: false,
  },
  twoStorages: {
    has: ({ config }) => config.storages.length > 1,
    message: "the configuration has one storage only",
    hint: "add another storage to jbackup.yaml",
    isOptional: true,
  },
  configFiles: {
    has: ({ config }) => config.configFiles.length > 0,
    message: "the configuration names no configFiles",
    hint: "list the configuration files of this host as configFiles in jbackup.yaml",
    isOptional: true,
  },
};

const lackingFor = (site: Site, { requires }: Runbook): Requirement[] =>
  requires.filter((needed) => !NEEDED[needed].has(site));

/** Why a runbook is for other sites than this one; null when it is not. */
export function notForThisSite(site: Site, runbook: Runbook): string | null {
  const lacking = lackingFor(site, runbook).filter((needed) => NEEDED[needed].isOptional);
  return lacking.length === 0 ? null : lacking.map((needed) => NEEDED[needed].message).join("; ");
}

/** What this site must have for it and has not. */
export const unmetBy = (site: Site, runbook: Runbook): Problem[] =>
  lackingFor(site, runbook)
    .filter((needed) => !NEEDED[needed].isOptional)
    .map((needed) => ({ path: "requires", message: NEEDED[needed].message }));

/** What is wrong with a runbook by itself and in a drill. */
export function problemsOf(runbook: Runbook): Problem[] {
  const own = lintRunbook(runbook);
  return own.length > 0 ? own : lintDrill(runbook);
}

export interface ValueWish {
  runbook: Runbook;
  isDrill: boolean;
  /** NAME=VALUE */
  given: string[];
  incidentAt: Date;
  run: string;
  folder: string;
  scratch: string | null;
  database: string;
}

/** Variables that have no value yet. */
export function missingVariables({
  runbook,
  isDrill,
  given,
}: Pick<ValueWish, "runbook" | "isDrill" | "given">): {
  name: string;
  about: string;
}[] {
  return Object.entries(runbook.variables)
    .filter(
      ([name, one]) =>
        ((isDrill ? one.drill : null) ?? one.default) === null &&
        !given.some((pair) => pair.startsWith(`${name}=`)),
    )
    .map(([name, { about }]) => ({ name, about }));
}

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });

const SCRATCH = /\$\{scratch\}/;

/** What every variable is in this run. */
export function valuesFor(site: Site, wish: ValueWish): Record<string, string> {
  const { runbook, isDrill, incidentAt, run, folder, scratch, database } = wish;
  const set = givenValues(wish);
  const known: Record<string, string> = {
    site: site.config.site,
    database,
    incident: incidentAt.toISOString(),
    run,
    folder,
    reason: `runbook ${runbook.name}, run ${run}`,
    ...(scratch === null ? {} : { scratch }),
  };
  const missing = missingVariables(wish);
  const values = Object.entries(runbook.variables).map(([name, variable]) => {
    const own = isDrill ? variable.drill : null;
    // a place is the drill's own whatever was given; everything else is practised as it was given
    const value = (own !== null && SCRATCH.test(own) ? own : null) ?? set[name] ?? own ?? variable.default;
    return [name, fillIn(value ?? "", known)];
  });
  if (missing.length > 0)
    throw usage(
      `the runbook ${runbook.name} needs ${missing.map(({ name, about }) => `${name} (${about})`).join(" and ")}`,
      `give ${missing.map(({ name }) => `--set ${name}=VALUE`).join(" ")}`,
    );
  return { ...known, ...Object.fromEntries(values) };
}

function givenValues({ runbook, given }: ValueWish): Record<string, string> {
  return Object.fromEntries(
    given.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw usage(`--set cannot be "${pair}"`, "write it as --set NAME=VALUE");
      const name = pair.slice(0, at);
      if (!(name in runbook.variables)) {
        const names = Object.keys(runbook.variables);
        const meant = nearest(name, names);
        throw usage(
          `the runbook ${runbook.name} has no variable "${name}"${meant ? `; did you mean "${meant}"?` : ""}`,
          names.length === 0 ? "leave --set out" : `its variables are ${names.join(", ")}`,
        );
      }
      return [name, pair.slice(at + 1)];
    }),
  );
}

/** A drill is refused whole, before anything happens, when one of its steps could reach what is not its own. */
export function refuseDangers(runbook: Runbook, values: Record<string, string>, scratch: string): void {
  for (const step of runbook.steps) {
    const does = step.drill === "same" ? step.action : step.drill;
    for (const action of does === null ? [] : [does, step.precheck, step.verify, step.undo]) {
      const danger = action === null ? null : drillDanger(filledAction(action, values), resolve(scratch));
      if (danger !== null)
        throw new JBackupError("target_refused", `step ${step.name} is not done in a drill: ${danger}`, {
          hint: "jbackup dr check names every step that a drill refuses",
        });
    }
  }
}
