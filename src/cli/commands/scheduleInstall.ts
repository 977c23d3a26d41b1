import { JBackupError } from "../../domain/errors.js";
import { type Installed, installSystemd } from "../../engine/schedule/install.js";
import { installCron } from "../../engine/schedule/installCron.js";
import { exists } from "../../engine/schedule/place.js";
import { type CommandRun, type Options, withSite } from "../context.js";
import { isSet, textFlag } from "../flags.js";
import { directoryIn, kindIn } from "../scheduleFlags.js";

const SYSTEMD_RUNS = "/run/systemd/system";

function userIn(options: Options, kind: "systemd" | "cron", isRoot: boolean): string | null {
  const user = textFlag(options, "user") ?? null;
  if (user === null) return null;
  if (kind === "systemd" && isRoot && /^[a-z_][a-z0-9_-]*\$?$/i.test(user)) return user;
  throw new JBackupError("usage", `--user cannot be "${user}" here`, {
    hint: "it names the user of system services that root installs; others install services or lines of their own",
  });
}

export const run: CommandRun = async (context, args, options) => {
  const kind = kindIn(args[0]) ?? ((await exists(SYSTEMD_RUNS)) ? "systemd" : "cron");
  const wish = {
    dryRun: isSet(options, "dryRun"),
    directory: directoryIn(context, options),
    user: userIn(options, kind, context.environment.isRoot),
  };
  return withSite(context, async (site) => {
    const done = await (kind === "systemd" ? installSystemd : installCron)(site, wish);
    for (const warning of done.warnings) context.output.report.warn(warning);
    context.output.answer(done, textOf(done));
    return 0;
  });
};

function textOf({ kind, dryRun, files, commands, isActive }: Installed): string {
  if (dryRun)
    return files
      .map(({ path, action, text = "" }) =>
        action === "removed" ? `# ${path}: removed` : `# ${path}\n${text}`,
      )
      .join("\n");
  const lines = files.map(({ path, action }) => `${path}: ${action}`);
  if (kind === "systemd" && !isActive && commands.length > 0)
    lines.push("Then, where they are installed:", ...commands.map((command) => `  ${command}`));
  if (isActive) lines.push("Every job runs by itself now. Next: jbackup schedule show");
  return lines.join("\n");
}
