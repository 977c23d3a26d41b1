import { listKeys } from "../../engine/keys.js";
import { type CommandRun, withSiteToRead } from "../context.js";

export const run: CommandRun = (context) =>
  withSiteToRead(context, async (site) => {
    const keys = await listKeys(site);
    const lines = [
      "Backups are sealed for:",
      ...keys.recipients.map(
        ({ recipient, canOpenHere }) =>
          `  ${recipient}  ${canOpenHere ? "(this host can open)" : "(not here)"}`,
      ),
      "Signatures are believed of:",
      ...keys.signers.map((signer) => `  ${signer}`),
      ...(keys.recipients.length < 2
        ? ["Only one key opens these backups. Add a second recipient, kept elsewhere: jbackup keys new"]
        : []),
      ...(keys.generated
        ? ["These keys were made by jbackup on this machine. Copy them off it: jbackup keys kit"]
        : []),
    ];
    context.output.answer(keys, lines.join("\n"));
    return 0;
  });
