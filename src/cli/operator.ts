import { JBackupError } from "../domain/errors.js";
import { actorOf } from "../engine/audit.js";
import type { Operator } from "../engine/dr/operator.js";
import type { Site } from "../engine/site.js";
import { inShell } from "./confirm.js";
import type { CommandContext } from "./context.js";
import { askOnTerminal } from "./wizards/ask.js";

export interface OperatorFlags {
  /** Names given with --confirm. */
  confirmed: string[];
  isYes: boolean;
}

const needed = (message: string, hint: string): JBackupError =>
  new JBackupError("needs_confirmation", message, { hint });

/** Answers from the flags where they answer, else from the person at the terminal, one question at a time. */
export function operatorFor(
  context: CommandContext,
  site: Site,
  { confirmed, isYes }: OperatorFlags,
): Operator {
  const { report } = context.output;
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <Answer>(ask: () => Promise<Answer>): Promise<Answer> => {
    const answered = last.then(ask);
    last = answered.catch(() => undefined); // told to whoever asked
    return answered;
  };
  const asking = () => askOnTerminal(context.signal);
  return {
    by: actorOf(site),
    values: (missing) =>
      inTurn(async () => {
        if (!context.isInteractive) return [];
        const ask = await asking();
        const given: string[] = [];
        for (const { name, about } of missing) {
          const problem = (text: string): string | null => (text.trim() === "" ? `say ${about}` : null);
          given.push(`${name}=${(await ask.text(`${name}: ${about}`, { problem })).trim()}`);
        }
        return given;
      }),
    foresee({ names, byHand }) {
      if (context.isInteractive) return;
      const open = [...new Set(names)].filter((name) => !confirmed.includes(name));
      const flags = [
        ...(open.length === 0 ? [] : [`--confirm ${open.map(inShell).join(" ")}`]),
        ...(byHand.length === 0 || isYes ? [] : ["--yes"]),
      ];
      if (flags.length === 0) return;
      const why = [
        ...(open.length === 0 ? [] : [`overwrites ${open.join(", ")}`]),
        ...(byHand.length === 0 || isYes ? [] : [`has steps that are done by hand (${byHand.join(", ")})`]),
      ];
      throw needed(
        `this runbook ${why.join(" and ")}, and there is no terminal to ask at`,
        `give ${flags.join(" ")}`,
      );
    },
    confirm: (step, text, name) =>
      inTurn(async () => {
        if (confirmed.includes(name)) return `${name}, by --confirm`;
        if (!context.isInteractive)
          throw needed(
            `step ${step} needs the name ${name} as confirmation`,
            `give --confirm ${inShell(name)}`,
          );
        report.info(text);
        for (;;) {
          const typed = (await (await asking()).text(`Type ${name} to go on:`)).trim();
          if (typed === name) return `${name}, typed by ${actorOf(site)}`;
          report.warn(`"${typed}" is not "${name}"; Ctrl-C leaves the run as it is, to be resumed`);
        }
      }),
    byHand: (step, text, look) =>
      inTurn(async () => {
        if (isYes) return "taken as done, by --yes";
        if (!context.isInteractive)
          throw needed(`step ${step} is done by hand: ${text}`, "do it, then give --yes");
        report.info(`${text}\nLook for: ${look}`);
        const seen = (await (await asking()).text("What do you see? (Enter: done)")).trim();
        return `${seen === "" ? "done" : seen}, by ${actorOf(site)}`;
      }),
    choose: <Choice extends string>(step: string, question: string, choices: Record<Choice, string>) =>
      inTurn(async () => {
        const entries = Object.entries<string>(choices) as [Choice, string][];
        const known = (value: string): Choice | undefined => entries.find(([one]) => one === value)?.[0];
        // stopping is never wrong; whether something was done is nothing to guess
        const unasked = context.isInteractive
          ? undefined
          : (known("failed") ?? (isYes ? known("again") : undefined));
        if (unasked !== undefined) return unasked;
        if (!context.isInteractive)
          throw needed(
            `step ${step} needs a decision: ${question}`,
            "resume on a terminal, or give --yes to do it again",
          );
        const options = entries.map(([value, text]) => ({ value, name: text }));
        return (await asking()).select(question, options);
      }),
  };
}
