import { JBackupError } from "../../domain/errors.js";
import { type EraseCheck, eraseCheck } from "../../engine/tenants/eraseCheck.js";
import { type CommandRun, withSite } from "../context.js";
import { tableText } from "../table.js";
import { countedText } from "../text.js";
import { tenantsIn } from "./restoreTenant.js";

const textOf = ({ tenantId, backups, until }: EraseCheck, columns: number): string =>
  backups.length === 0
    ? `No backup holds data of tenant ${tenantId}.`
    : [
        `${countedText(backups.length, "backup")} may hold data of tenant ${tenantId}; a full one holds everybody's.`,
        tableText(
          backups,
          [
            { title: "BACKUP", value: ({ label }) => label, rank: 0 },
            { title: "KIND", value: ({ kind }) => kind, rank: 1 },
            { title: "UNTIL", value: ({ until: end }) => end ?? "kept until cleanup removes it", rank: 1 },
            { title: "STORAGES", value: ({ storages }) => storages.join(", "), rank: 2 },
          ],
          columns,
        ),
        until === null
          ? "When the last of them goes is not known from their age alone."
          : `The last of them goes at ${until}.`,
      ].join("\n");

export const run: CommandRun = (context, _args, options) => {
  const [tenantId, second] = tenantsIn(options);
  if (tenantId === undefined || second !== undefined)
    throw new JBackupError("usage", "one --tenant must be named", {
      hint: "name the erased tenant with --tenant ID",
    });
  return withSite(context, async (site) => {
    const check = await eraseCheck(site, tenantId);
    context.output.answer(check, textOf(check, context.output.columns));
    return 0;
  });
};
