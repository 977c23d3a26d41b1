import type { Run } from "./backup.js";
import { isJBackupError } from "./errors.js";

/** How much a run says about its job. Only one of the whole counts for the schedule, for health, and for when it is due. */
export type RunScope =
  | "whole"
  /** Some of it, as its caller chose: one tenant, one backup, a look without the deed. */
  | "part"
  /** It was not let in: another one is at it, or what its caller asked for does not exist. */
  | "refused";

/** Those from before scopes were recorded were taken for whole ones. */
export const scopeOf = ({ metadata }: Pick<Run, "metadata">): RunScope =>
  metadata.scope === "part" || metadata.scope === "refused" ? metadata.scope : "whole";

/** Somebody sits there and reads the answer, or another run is at work: nothing is wrong with the backups. */
export const isOfTheCaller = (error: unknown): boolean =>
  isJBackupError(error, "usage", "not_found", "ambiguous", "locked", "needs_confirmation");

/** The scope at a run's end. What is missing for the whole of a job, nobody mistyped. */
export const scopeAfter = (scope: "whole" | "part", error: unknown): RunScope =>
  isJBackupError(error, "locked") || (scope === "part" && isOfTheCaller(error)) ? "refused" : scope;

/** A job, or the part of it that a run is about: their troubles are not the same. */
export const subjectOf = (job: string, about: string | null): string =>
  about === null ? job : `${job}:${about}`;
