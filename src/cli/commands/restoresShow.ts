import { type ShownRestore, showRestore, type TenantProof } from "../../engine/showRestore.js";

import { statusText } from "../backupText.js";
import { type CommandContext, type CommandRun, withSiteToRead } from "../context.js";
import { tableText } from "../table.js";
import { agoText, countedText, countText, durationText } from "../text.js";

/** What stands in the signed report of a tenant's restore, as people read it. */
function proofLines({ restore, signature }: ShownRestore): string[] {
  const { proof } = (restore.metadata.report ?? {}) as { proof?: TenantProof | null };
  if (!proof || signature === null) return [];
  const written = proof.written.map(
    ({ table, inserted, updated, deleted }) => `${table} ${inserted}/${updated}/${deleted}`,
  );
  return [
    `  plan      ${proof.planHash}`,
    `  written   ${written.length === 0 ? "nothing" : written.join(", ")} (inserted/updated/deleted, by the server's own count)`,
    `  at        transaction ${proof.xid}, WAL ${proof.lsn}`,
    `  digests   of ${countedText(proof.digests.length, "table")} (--json shows them)`,
    `  others    ${proof.others === null ? "by the server's count (--prove full compares every row)" : `${countText(proof.others.rows)} rows in ${countedText(proof.others.tables, "table")}, the same with and without this restore`}`,
    `  signature ${signature.isGenuine ? `good, by ${signature.signer}` : `NOT GOOD: this is not what ${signature.signer} signed, or he is not trusted`}`,
  ];
}

function shownText(shown: ShownRestore, context: CommandContext): string {
  const { restore } = shown;
  const { paint, columns } = context.output;
  const facts: [string, string | null][] = [
    ["status", statusText(restore.status, paint)],
    ["mode", `${restore.mode} into ${restore.target}`],
    ["tenant", restore.tenantIds.length === 0 ? null : restore.tenantIds.join(", ")],
    [
      "from",
      `backup ${restore.backupId}${restore.targetTime === null ? "" : `, as of ${restore.targetTime}`}`,
    ],
    [
      "made",
      `${restore.startedAt} (${agoText(restore.startedAt, context.clock.now())}) by ${restore.initiatedBy}`,
    ],
    ["took", restore.durationMs === null ? null : durationText(restore.durationMs)],
    ["reason", `"${restore.reason}"`],
    ["rows", countText(restore.rowsRestored)],
    [
      "before",
      typeof restore.metadata.safetyBackupId === "string"
        ? `backup ${restore.metadata.safetyBackupId}`
        : null,
    ],
    ["error", restore.error],
  ];
  const tables = tableText(
    restore.tables,
    [
      { title: "TABLE", value: ({ table }) => table, rank: 0 },
      { title: "INSERTED", value: ({ inserted }) => countText(inserted), align: "right", rank: 1 },
      { title: "UPDATED", value: ({ updated }) => countText(updated), align: "right", rank: 1 },
      { title: "DELETED", value: ({ deleted }) => countText(deleted), align: "right", rank: 1 },
      { title: "UNCHANGED", value: ({ unchanged }) => countText(unchanged), align: "right", rank: 2 },
    ],
    columns,
  );
  const proof = proofLines(shown);
  return [
    paint.bold(`restore ${restore.id}`),
    ...facts.filter(([, value]) => value !== null).map(([name, value]) => `  ${name.padEnd(9)} ${value}`),
    ...(restore.tables.length === 0 ? [] : ["", tables]),
    ...(proof.length === 0 ? [] : ["", paint.bold("Proof"), ...proof]),
    ...restore.warnings.map((warning) => `Note: ${warning}`),
  ].join("\n");
}

/** Exit 4 when the record was changed after it was signed. */
export const run: CommandRun = (context, args) =>
  withSiteToRead(context, async (site) => {
    const shown = await showRestore(site, args[0] ?? "");
    context.output.answer({ ...shown.restore, signature: shown.signature }, shownText(shown, context));
    return shown.signature?.isGenuine === false ? 4 : 0;
  });
