import type { VerificationLevel } from "../../domain/backup.js";
import type { CheckedCopy } from "./objects.js";
import type { Problem } from "./problem.js";
import type { Survey, SurveyedBackup } from "./survey.js";

/** What a verification came to. */
export interface Findings {
  survey: Survey;
  level: VerificationLevel;
  /** Everything was read, not only the share of a day: then a copy without a finding is a good one. */
  isWhole: boolean;
  checked: ReadonlyMap<string, CheckedCopy>;
  problems: Problem[];
  healed: Problem[];
  durationMs: number;
}

/** In its own folder: what somebody put elsewhere under its id says nothing of it. */
export const isOf = ({ backupId, path }: Problem, { id, folder }: SurveyedBackup): boolean =>
  backupId === id && path.startsWith(`${folder}/`);

export const ofCopy = (problems: Problem[], backup: SurveyedBackup, storage: string): Problem[] =>
  problems.filter((one) => one.storage === storage && isOf(one, backup));

export const leftOf = ({ problems, healed }: Findings): Problem[] =>
  problems.filter((problem) => !healed.includes(problem));
