import { type WrittenKit, writeKit } from "../../engine/writeKit.js";
import { type CommandRun, withSite } from "../context.js";
import { outFile } from "../outFile.js";

const SHOWN = 5;

/** Says for whom the kit is, and what it is not good for: whoever locks it away believes what stands here. */
export function kitAnswer({ file, opens, missing, tried, notOpened }: WrittenKit): string {
  const rest = notOpened.length > SHOWN ? ` and ${notOpened.length - SHOWN} more` : "";
  return [
    `${file} opens what is sealed for ${opens.join(" and ")}. Print it, lock it away, and delete the file.`,
    ...missing.map((one) => `Backups are sealed for ${one} too; its private key is not in this kit.`),
    tried === 0
      ? "No backup is known yet that it could be tried on."
      : notOpened.length === 0
        ? `Tried on the newest ${tried === 1 ? "backup" : `${tried} backups`}: it opens ${tried === 1 ? "it" : "all of them"}.`
        : `It does NOT open ${notOpened.length} of the newest ${tried} backups: ${notOpened.slice(0, SHOWN).join(", ")}${rest}. Keep the older kit as well, or, where the older key still is, run jbackup keys rotate.`,
  ].join("\n");
}

export const run: CommandRun = async (context, _args, options) => {
  const file = (await outFile(context, options, "jbackup-recovery-kit.txt")) as string;
  return withSite(context, async (site) => {
    const kit = await writeKit(site, file);
    context.output.answer(kit, kitAnswer(kit));
    return 0;
  });
};
