import type { CommandSpec } from "./tree.js";

/** The commands about how the host is set up. */
export const CONFIG_COMMANDS: CommandSpec[] = [
  {
    usage: "backup config",
    summary: "back up configuration files, the server's settings and roles, and an install plan",
    options: [["--note <text>", "a remark that list and show repeat"]],
    examples: [
      ["jbackup backup config", "what configFiles names, and what a bare host needs to be set up"],
      ["jbackup restore --config-files --into-dir /tmp/config --reason look", "look at the newest one"],
      ["jbackup backup config --json | jq .warnings", "what is missing in it; exit 3 when something is"],
    ],
    exits: [0, 1, 2, 3, 10, 11, 16, 130, 143],
    load: () => import("./commands/backupConfig.js"),
  },
];
