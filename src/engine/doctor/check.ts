import { type Finding, finding, type Group } from "../../domain/diagnosis.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { Site } from "../site.js";

/** A finding, and what would put it right without any risk. */
export interface Diagnosed extends Finding {
  /** Answers what it did. */
  fix?: () => Promise<string>;
}

export interface Check {
  group: Group;
  name: string;
  look(site: Site): Promise<Diagnosed[]>;
}

/** One that does not answer must not keep the others waiting. */
const LIMIT_MS = 25_000;

/** A check that cannot be made is a finding, never a crash. */
export async function lookInTime(site: Site, check: Check, limitMs = LIMIT_MS): Promise<Diagnosed[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Diagnosed[]>((resolve) => {
    const told = finding(
      check.group,
      check.name,
      "fail",
      `no answer within ${Math.round(limitMs / 1000)} s`,
      "look whether the network or that service hangs, then run jbackup doctor again",
    );
    timer = setTimeout(() => resolve([told]), limitMs);
  });
  try {
    return await Promise.race([
      check.look(site).catch((error: unknown) => [failed(site, check, error)]),
      late,
    ]);
  } finally {
    clearTimeout(timer);
  }
}

function failed(site: Site, { group, name }: Check, error: unknown): Diagnosed {
  site.signal.throwIfAborted();
  const isOurs = error instanceof JBackupError;
  const hint = isOurs
    ? (error.hint ?? null)
    : "this check itself went wrong: run it again with --verbose, and report what it says";
  const exit = isOurs ? error.exitCode : 1;
  return { ...finding(group, name, "fail", reasonOf(error), hint), exit };
}

export const ageOf = (site: Site, at: string | null | undefined): number | null =>
  at ? site.clock.now().getTime() - Date.parse(at) : null;
