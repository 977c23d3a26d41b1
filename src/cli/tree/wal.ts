import type { CommandSpec } from "../tree.js";

/** What PostgreSQL itself runs, and what is known of the log. */
export const WAL_COMMANDS: CommandSpec[] = [
  {
    usage: "wal push <path>",
    summary: "archive one file of the WAL (for archive_command)",
    examples: [["archive_command = 'jbackup wal push %p'", "in postgresql.conf"]],
    exits: [0, 1],
    failureExit: 1,
    load: () => import("../commands/walPush.js"),
  },
  {
    usage: "wal fetch <name> <path>",
    summary: "bring one file of the WAL back (for restore_command)",
    options: [["--ahead", "bring the segments behind it for the next calls; jbackup starts this by itself"]],
    examples: [["restore_command = 'jbackup wal fetch %f %p'", "in postgresql.conf of a standby"]],
    exits: [0, 1],
    failureExit: 126,
    load: () => import("../commands/walFetch.js"),
  },
  {
    usage: "wal status",
    summary: "how far back and how far on a recovery can go, and whether anything is missing",
    examples: [
      ["jbackup wal status", "window, holes, slot, pg_wal"],
      ["jbackup wal status --json | jq .window", "for monitoring"],
    ],
    exits: [0, 1, 2, 4],
    load: () => import("../commands/walStatus.js"),
  },
];
