import { isAbsolute, join } from "node:path";
import type { CommandRun } from "../context.js";
import { textFlag } from "../flags.js";

const inYaml = (path: string): string => (/^[\w./-]+$/.test(path) ? path : JSON.stringify(path));

export const run: CommandRun = async (context, _args, options) => {
  const out = textFlag(options, "out") ?? "jbackup-keys";
  const directory = isAbsolute(out) ? out : join(context.environment.workingDirectory, out);
  const keys = await context.openers.createKeys({ directory });
  context.output.answer(
    keys,
    [
      `Made identity, recipient, signing and signer in ${directory}.`,
      "Put into jbackup.yaml on the host that backs up:",
      "",
      "keys:",
      `  recipients: [${keys.recipient}]`,
      `  signing: {file: ${inYaml(join(directory, "signing"))}}`,
      `  signers: [${keys.signer}]`,
      "",
      `identity opens every backup: keep it off that host, in at least two places. Where restores run, add`,
      `  identity: {file: ${inYaml(join(directory, "identity"))}}`,
    ].join("\n"),
  );
  return 0;
};
