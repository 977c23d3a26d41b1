import { JBackupError } from "../../domain/errors.js";

/** The person at the keyboard, or the flags that speak for one. Every answer is a decision that the report names. */
export interface Operator {
  /** Who answers, for the records. */
  readonly by: string;
  /** What variables are that nobody gave, as NAME=VALUE; nothing when nobody can be asked. */
  values(missing: { name: string; about: string }[]): Promise<string[]>;
  /** Throws needs_confirmation when nobody could answer what will be asked. */
  foresee(questions: { names: string[]; byHand: string[] }): void;
  /** Throws needs_confirmation unless the name was typed; answers how it was confirmed. */
  confirm(step: string, text: string, name: string): Promise<string>;
  /** Answers what was seen. */
  byHand(step: string, text: string, look: string): Promise<string>;
  /** One of the choices. */
  choose<Choice extends string>(
    step: string,
    question: string,
    choices: Record<Choice, string>,
  ): Promise<Choice>;
}

/** Nobody is asked in a drill: it confirms nothing that matters, and stops when it does not know. */
export const DRILL_OPERATOR: Operator = {
  by: "drill",
  values: async () => [],
  foresee: () => undefined,
  confirm: async (_step, _text, name) => `${name}, by the drill`,
  byHand: async () => "not done in a drill",
  choose: async (_step, question) => {
    throw new JBackupError("verification_failed", `a drill asks nobody: ${question}`);
  },
};
