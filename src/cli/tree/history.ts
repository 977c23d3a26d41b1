import type { CommandSpec } from "../tree.js";

const LIST_OPTIONS: [string, string][] = [
  ["--since <time>", "only from this time on: 2026-11-20, 2026-11-20T02:00:00Z, or a span back such as 7d"],
  ["--limit <n>", "at most so many, newest first (default 50)"],
];

/** What was done. */
export const HISTORY_COMMANDS: CommandSpec[] = [
  {
    usage: "list",
    summary: "the backups there are",
    options: [
      ["--kind <kind>", "full, tenant, wal or config"],
      ["--status <status>", "in_progress, completed, verified, failed or interrupted"],
      ["--tenant <id>", "of this tenant"],
      ["--until <time>", "only before this time"],
      ...LIST_OPTIONS,
    ],
    examples: [
      ["jbackup list", "the newest 50"],
      ["jbackup list --since 7d --status completed", "good ones of the last week"],
      ["jbackup list --json | jq '.[0].copies'", "where the newest one is kept"],
    ],
    exits: [0, 1, 2],
    load: () => import("../commands/list.js"),
  },
  {
    usage: "show <backup>",
    summary: "one backup: copies, contents, verifications, restores, alerts",
    examples: [
      ["jbackup show latest", "the newest one"],
      ["jbackup show full-20261120", "by the beginning of its label"],
    ],
    exits: [0, 1, 2, 4, 10],
    load: () => import("../commands/show.js"),
  },
  {
    usage: "restores [restore]",
    summary: "the restores that were made: who, why, what; or one of them, with its proof",
    options: [["--status <status>", "in_progress, completed, failed or cancelled"], ...LIST_OPTIONS],
    examples: [
      ["jbackup restores --since 30d", "of the last month"],
      ["jbackup restores 019aa4c2", "one, by the beginning of its id: tables, proof, signature"],
    ],
    exits: [0, 1, 2, 4, 10],
    load: () => import("../commands/restores.js"),
  },
];
