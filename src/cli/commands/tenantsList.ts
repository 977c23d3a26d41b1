import { tenantsWithBackups } from "../../engine/tenants/list.js";
import { type CommandRun, withSite } from "../context.js";
import { tableText } from "../table.js";

export const run: CommandRun = (context) =>
  withSite(context, async (site) => {
    const tenants = await tenantsWithBackups(site);
    const text =
      tenants.length === 0
        ? "There are no tenants."
        : tableText(
            tenants,
            [
              { title: "ID", value: ({ id }) => id, rank: 0 },
              { title: "NAME", value: ({ name }) => name ?? "", rank: 1 },
              { title: "ACTIVE", value: ({ active }) => (active ? "yes" : "no"), rank: 2 },
              { title: "LAST BACKUP", value: ({ lastBackupAt }) => lastBackupAt ?? "never", rank: 1 },
            ],
            context.output.columns,
          );
    context.output.answer(tenants, text);
    return 0;
  });
