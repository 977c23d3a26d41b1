import type { Proof, ProofLine } from "../../engine/demo/demo.js";
import type { CommandContext, CommandRun } from "../context.js";
import { tableText, wrapped } from "../table.js";
import { countText, durationText } from "../text.js";

export const run: CommandRun = async (context) => {
  const { output, environment, signal, version } = context;
  const told = await context.openers.runDemo({
    environment,
    report: { ...output.report, info: () => undefined },
    signal,
    onSecret: (text) => output.secret(text),
    version,
    say: (line) => {
      for (const part of output.json ? [line] : wrapped(line, output.columns)) output.say(part);
    },
    show: (proof) => showProof(context, proof),
  });
  output.answer(
    told,
    `Done in ${durationText(told.durationMs)}: ${told.compared} fingerprints over ${countText(told.rowsCompared)} rows and objects, every one as it was before its disaster.`,
  );
  return 0;
};

const SHOWN_DIGITS = 16;

/** The digests themselves, so that nobody has to believe the word "equal". */
function showProof({ output }: CommandContext, { of, lines }: Proof): void {
  output.say(`Proof: ${of}`);
  const digits = (digest: string): string => digest.slice(0, SHOWN_DIGITS);
  const table = tableText(
    lines,
    [
      { title: "  WHAT", value: ({ what }: ProofLine) => `  ${what}`, rank: 0 },
      { title: "HOLDS", value: ({ rows }) => countText(rows), align: "right", rank: 3 },
      { title: "EXPECTED SHA-256", value: ({ expected }) => digits(expected), rank: 1 },
      { title: "SEEN", value: ({ seen }) => digits(seen), rank: 2 },
      { title: "", value: ({ expected, seen }) => (expected === seen ? "equal" : "DIFFERENT"), rank: 0 },
    ],
    output.columns,
  );
  for (const line of table.split("\n")) output.say(line);
}
