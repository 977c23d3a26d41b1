import { JBackupError } from "../../domain/errors.js";

export interface Choice<Value> {
  name: string;
  value: Value;
  /** A line about it, shown while it is pointed at. */
  description?: string;
}

/** Questions on a terminal. Every one may be left with Ctrl-C, which changes nothing. */
export interface Ask {
  select<Value>(message: string, choices: Choice<Value>[]): Promise<Value>;
  /** A list that narrows while one types. */
  search<Value>(message: string, choices: Choice<Value>[]): Promise<Value>;
  checkbox<Value>(message: string, choices: Choice<Value>[]): Promise<Value[]>;
  /** Asked again until `problem` finds none. */
  text(
    message: string,
    wish?: { initial?: string; problem?: (text: string) => string | null },
  ): Promise<string>;
  /** Nothing of what is typed is shown. */
  hidden(message: string): Promise<string>;
  yes(message: string, initial: boolean): Promise<boolean>;
}

type Question = Record<string, unknown>;

/** On stderr: stdout carries the answer only. */
export async function askOnTerminal(signal: AbortSignal): Promise<Ask> {
  const { createPromptModule } = await import("inquirer");
  const prompt = createPromptModule({ output: process.stderr, signal });
  const put = async <Value>(question: Question): Promise<Value> => {
    try {
      const answers: Record<string, unknown> = await prompt([{ name: "answer", ...question }] as never);
      return answers.answer as Value;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Error && error.name === "ExitPromptError")
        throw new JBackupError("interrupted", "interrupted at the question; nothing was changed", {
          cause: error,
        });
      throw error;
    }
  };
  return {
    select: (message, choices) => put({ type: "select", message, choices, pageSize: 12 }),
    search: (message, choices) =>
      put({
        type: "search",
        message,
        pageSize: 12,
        source: (term: string | undefined) => choices.filter((choice) => isMeant(choice, term ?? "")),
      }),
    checkbox: (message, choices) => put({ type: "checkbox", message, choices, pageSize: 12, required: true }),
    text: (message, { initial, problem } = {}) =>
      put({
        type: "input",
        message,
        ...(initial === undefined ? {} : { default: initial }),
        validate: (text: string) => problem?.(text) ?? true,
      }),
    hidden: (message) =>
      put({
        type: "password",
        message,
        mask: "*",
        validate: (text: string) => text.trim() !== "" || "it cannot be empty",
      }),
    yes: (message, initial) => put({ type: "confirm", message, default: initial }),
  };
}

/** Every word that was typed stands somewhere in it. */
const isMeant = ({ name }: Choice<unknown>, term: string): boolean =>
  term
    .toLowerCase()
    .split(/\s+/)
    .every((word) => name.toLowerCase().includes(word));
