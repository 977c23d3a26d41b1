import type { CommandRun } from "../context.js";
import { countText, durationText } from "../text.js";

export const run: CommandRun = async (context) => {
  const { output, environment, signal, version } = context;
  const told = await context.openers.runDemo({
    environment,
    report: output.report,
    signal,
    onSecret: (text) => output.secret(text),
    version,
    say: (line) => output.say(line),
  });
  output.answer(
    told,
    `Done in ${durationText(told.durationMs)}: ${countText(told.rowsCompared)} rows in ${told.tablesCompared} tables came back, every byte of them.`,
  );
  return 0;
};
