import type { Witness } from "../../domain/auditHead.js";
import { AUDIT_HINT, auditProblems, auditWarnings } from "../../engine/auditFindings.js";
import { type AuditState, examineAudit, isSoundAudit } from "../../engine/auditWitnesses.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { type CommandRun, withSiteToRead } from "../context.js";
import { countFlag } from "../flags.js";
import { outFile } from "../outFile.js";
import { tableText } from "../table.js";
import { agoText, countedText, countText } from "../text.js";

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
    const state = await examineAudit(site);
    context.output.answer(answerOf(state), textOf(state));
    return isSoundAudit(state) ? 0 : 4;
  });

const known = ({ backupId, label, createdBy, head }: Witness) => ({
  backupId,
  label,
  createdBy,
  entries: head.entries,
  hash: head.hash,
});

const answerOf = (state: AuditState) => ({
  ok: isSoundAudit(state),
  entries: state.entries,
  brokenAt: state.brokenAt,
  head: state.head,
  confirmedBy: state.confirmed === null ? null : known(state.confirmed),
  contradictedBy: state.contradicting.map(known),
  gaps: state.gaps,
  storagesAway: state.storagesAway,
  problems: auditProblems(state),
  warnings: auditWarnings(state),
});

const sentence = (text: string): string => `${text[0]?.toUpperCase()}${text.slice(1)}.`;

function textOf(state: AuditState): string {
  const { entries, head, confirmed } = state;
  const problems = auditProblems(state);
  const sound = [
    `The chain of ${countText(entries)} ${entries === 1 ? "entry" : "entries"} holds. Its head is ${head ?? "empty"}.`,
    ...(confirmed === null
      ? []
      : [
          `The signed manifest of ${confirmed.label} knew ${countText(confirmed.head.entries)} of them, and they are all here.`,
        ]),
  ];
  return [
    ...(problems.length === 0 ? sound : problems.map(sentence)),
    ...auditWarnings(state).map((warning) => `Warning: ${warning}`),
    ...(problems.length === 0 ? [] : [`Try: ${AUDIT_HINT}`]),
  ].join("\n");
}

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
