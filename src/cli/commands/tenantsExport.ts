import { resolve } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { exportTenantFiles } from "../../engine/tenants/exportFiles.js";
import { type CommandRun, withSite } from "../context.js";
import { choiceFlag, textFlag } from "../flags.js";
import { bytesText, countedText, countText } from "../text.js";
import { tenantsIn } from "./restoreTenant.js";

export const run: CommandRun = (context, args, options) => {
  const [tenantId, second] = tenantsIn(options);
  if (tenantId === undefined || second !== undefined)
    throw new JBackupError("usage", "one --tenant must be named", {
      hint: "jbackup tenants list shows the ids",
    });
  const format = choiceFlag(options, "format", ["csv", "sql"] as const) ?? "csv";
  const directory = resolve(
    textFlag(options, "out") ?? `tenant-${tenantId.replace(/[^A-Za-z0-9._-]/g, "_")}`,
  );
  return withSite(context, async (site) => {
    const [named = "latest"] = args;
    // the newest backup of all is rarely this tenant's
    const reference = named === "latest" ? null : named;
    const done = await exportTenantFiles(site, { tenantId, reference, format, directory });
    const rows = done.files.reduce((sum, file) => sum + file.rows, 0);
    const bytes = done.files.reduce((sum, file) => sum + file.bytes, 0);
    context.output.answer(
      done,
      [
        `Tenant ${done.tenantId} as of ${done.snapshotAt}: ${countText(rows)} rows in ${countedText(done.files.length, "file")}, ${bytesText(bytes)}`,
        `  in ${done.directory}`,
        ...(format === "sql"
          ? [
              `Next: cd ${done.directory} && psql --set ON_ERROR_STOP=1 --single-transaction --file load.sql DATABASE`,
            ]
          : []),
      ].join("\n"),
    );
    return 0;
  });
};
