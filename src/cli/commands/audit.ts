import { writeFileAtomic } from "../../sys/atomicFile.js";
import { type CommandRun, withSiteToRead } from "../context.js";
import { countFlag } from "../flags.js";
import { outFile } from "../outFile.js";
import { tableText } from "../table.js";
import { agoText, countedText } from "../text.js";

export const show: CommandRun = (context, _args, options) => {
  const limit = countFlag(options, "limit", 1, 1_000_000) ?? 50;
  return withSiteToRead(context, async (site) => {
    const entries = await site.catalog.audit(limit);
    const text = tableText(
      entries,
      [
        { title: "WHEN", value: ({ at }) => agoText(at, context.clock.now()), rank: 0 },
        { title: "WHO", value: ({ actor }) => actor, rank: 1 },
        { title: "WHAT", value: ({ action }) => action, rank: 0 },
        { title: "ON", value: ({ subject }) => subject, rank: 2 },
        { title: "DETAIL", value: ({ detail }) => JSON.stringify(detail), rank: 3 },
      ],
      context.output.columns,
    );
    context.output.answer(entries, entries.length === 0 ? "The audit has no entry yet." : text);
    return 0;
  });
};

export const check: CommandRun = (context) =>
  withSiteToRead(context, async (site) => {
    const { entries, brokenAt, head } = await site.catalog.checkAudit();
    const text =
      brokenAt === null
        ? `The chain of ${countedText(entries, "entry").replace("entrys", "entries")} holds. Its head is ${head ?? "empty"}: kept elsewhere, it also shows when the end is cut off.`
        : `The chain is broken at entry ${brokenAt}: it was changed, or what stood before it was removed.`;
    context.output.answer({ ok: brokenAt === null, entries, brokenAt, head }, text);
    return brokenAt === null ? 0 : 4;
  });

/** As lines of JSON, oldest first: for a system that keeps them where this one cannot change them. */
export const exportAll: CommandRun = async (context, _args, options) => {
  const file = await outFile(context, options);
  return withSiteToRead(context, async (site) => {
    const entries = (await site.catalog.audit()).reverse();
    const lines = entries.map((entry) => JSON.stringify(entry)).join("\n");
    if (file === undefined) {
      context.output.answer(entries, lines);
      return 0;
    }
    await writeFileAtomic(file, lines === "" ? "" : `${lines}\n`, { overwrite: true });
    const count = countedText(entries.length, "entry").replace("entrys", "entries");
    context.output.answer({ file, entries: entries.length }, `${count} written to ${file}.`);
    return 0;
  });
};
