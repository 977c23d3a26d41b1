import type { CommandSpec } from "../tree.js";
import { AT } from "./schedule.js";

/** The commands about how the host is set up. */
export const CONFIG_COMMANDS: CommandSpec[] = [
  {
    usage: "backup config",
    summary: "back up configuration files, the server's settings and roles, and an install plan",
    options: [["--note <text>", "a remark that list and show repeat"], AT],
    examples: [
      ["jbackup backup config", "what configFiles names, and what a bare host needs to be set up"],
      ["jbackup backup config --json | jq .warnings", "what is missing in it; exit 3 when something is"],
    ],
    exits: [0, 1, 2, 3, 10, 11, 16, 130, 143],
    load: () => import("../commands/backupConfig.js"),
  },
  {
    usage: "doctor",
    summary: "every precondition: ok, warn or fail, the cause, and the command that fixes it",
    options: [["--fix", "do what is safe: modes of files with secrets, missing folders"]],
    examples: [
      ["jbackup doctor", "after setting up, after an upgrade, when something is odd"],
      [
        "jbackup doctor --json | jq '.checks[] | select(.status != \"ok\")'",
        "for scripts; exit 0 when nothing fails",
      ],
    ],
    exits: [0, 1, 2, 4, 10, 12, 14, 16],
    load: () => import("../commands/doctor.js"),
  },
];
