import { JBackupError } from "../../domain/errors.js";
import { type EraseCheck, eraseCheck } from "../../engine/tenants/eraseCheck.js";
import { type CommandRun, withSite } from "../context.js";
import { tableText } from "../table.js";
import { bytesText, countedText } from "../text.js";
import { tenantsIn } from "./restoreTenant.js";

const untilText = (until: string | null): string => until ?? "nothing says when";

function textOf(check: EraseCheck, columns: number): string {
  const { tenantId, backups, wal, until, assumes, notLookedAt, standsStill, isThere, next } = check;
  const unknown = notLookedAt.map(
    ({ storage, why }) => `Storage ${storage} could not be looked at, and may hold more: ${why}`,
  );
  if (!check.holdsData) return [`Nothing holds data of tenant ${tenantId}.`, ...unknown].join("\n");
  return [
    `${countedText(backups.length, "backup")} may hold data of tenant ${tenantId}; a full one holds everybody's.`,
    tableText(
      backups,
      [
        { title: "BACKUP", value: ({ label }) => label, rank: 0 },
        { title: "KIND", value: ({ kind }) => kind, rank: 2 },
        { title: "UNTIL", value: (one) => untilText(one.until), rank: 1 },
        { title: "STORAGES", value: ({ storages }) => storages.join(", "), rank: 3 },
        { title: "KEPT AS", value: ({ why }) => why.join("; "), rank: 4 },
      ],
      columns,
    ),
    ...wal.map(
      (log) =>
        `WAL in ${log.storage}: ${countedText(log.objects, "object")}, ${bytesText(log.bytes)}, until: ${untilText(log.until)}`,
    ),
    ...unknown,
    ...standsStill.map(
      (why) => `Expiry stands still: ${why}. Until that is mended, the times above do not come.`,
    ),
    isThere === true
      ? `Tenant ${tenantId} still has a row among the tenants: while it has, the last of its own backups is kept.`
      : "",
    until === null
      ? "When the last of it goes cannot be told: a rule keeps some of it without an end."
      : `The last of it goes at ${until}, if ${assumes}.`,
    next === null
      ? ""
      : `Next: ${next}, which notes that the tenant is gone; from then on its own backups expire to the last one.`,
  ]
    .filter((line) => line !== "")
    .join("\n");
}

export const run: CommandRun = (context, _args, options) => {
  const [tenantId, second] = tenantsIn(options);
  if (tenantId === undefined || second !== undefined)
    throw new JBackupError("usage", "one --tenant must be named", {
      hint: "name the erased tenant with --tenant ID",
    });
  return withSite(context, async (site) => {
    const check = await eraseCheck(site, tenantId);
    context.output.answer(check, textOf(check, context.output.columns));
    return check.notLookedAt.length > 0 ? 3 : 0;
  });
};
