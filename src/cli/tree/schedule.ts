import type { CommandSpec } from "../tree.js";

/** For every command that makes a backup. */
export const AT: [string, string] = [
  "--at <time>",
  "run it once, later: a time with its zone, or a span from now on such as 2h",
];

/** For backup tenant: several hosts at it. */
export const QUEUE: [string, string][] = [
  ["--queue", "with --all: let workers do it (jbackup schedule run --worker), each batch of one moment"],
  ["--batch <n>", "with --queue: so many tenants at a time (default 50)"],
];

const DIRECTORY: [string, string] = [
  "--dir <directory>",
  "write the files here only, for you to install; for cron: a file named crontab",
];

/** The commands that make everything else happen by itself. */
export const SCHEDULE_COMMANDS: CommandSpec[] = [
  {
    usage: "schedule show",
    summary: "every job: its times (UTC), its next run, how the last one went, whether one was missed",
    examples: [
      ["jbackup schedule show", "jobs, and one-off runs that wait"],
      ["jbackup schedule show --json | jq '.jobs[] | select(.overdue)'", "for monitoring"],
    ],
    exits: [0, 1, 2],
    load: () => import("../commands/scheduleShow.js"),
  },
  {
    usage: "schedule install [kind]",
    summary: "let systemd or cron run every job of the schedule (KIND: systemd or cron)",
    options: [
      ["--dry-run", "show what would be written, and change nothing"],
      DIRECTORY,
      ["--user <name>", "who runs the services, when root installs them (default: root)"],
    ],
    examples: [
      ["jbackup schedule install", "timers where systemd runs, else lines in the crontab"],
      ["jbackup schedule install systemd --dry-run", "read the units first"],
      ["jbackup schedule install cron", "between two marks; other lines stay as they are"],
    ],
    exits: [0, 1, 2, 14, 16],
    load: () => import("../commands/scheduleInstall.js"),
  },
  {
    usage: "schedule remove [kind]",
    summary: "take away what schedule install made, and nothing else (KIND: systemd or cron; default: both)",
    options: [["--dry-run", "show what would be removed, and change nothing"], DIRECTORY],
    examples: [["jbackup schedule remove", "jobs run by hand only, from now on"]],
    exits: [0, 1, 2, 16],
    load: () => import("../commands/scheduleRemove.js"),
  },
  {
    usage: "schedule run",
    summary: "run every job when it is due, until stopped: in place of systemd timers and cron",
    options: [
      ["--health <host:port>", "answer GET /health there: 200 while all is well, else 503"],
      [
        "--worker",
        "take batches of tenants from the queue, beside as many other workers as you like; for a PostgreSQL catalog",
      ],
      ["--once", "only what timers and cron do not know of: one-off runs that are due, and missed runs"],
    ],
    examples: [
      ["jbackup schedule run --health 127.0.0.1:9187", "in a container, or as a service"],
      ["jbackup schedule run --worker", "on every host that is to help with backup tenant --all --queue"],
      ["jbackup schedule run --once", "what schedule install lets run every five minutes"],
    ],
    exits: [0, 1, 2, 11, 16, 130, 143],
    load: () => import("../commands/scheduleRun.js"),
  },
  {
    usage: "schedule cancel <id>",
    summary: "take back a one-off run that was asked for with --at",
    examples: [["jbackup schedule cancel 019ac1", "the id, or its beginning, from schedule show"]],
    exits: [0, 1, 2, 10],
    load: () => import("../commands/scheduleCancel.js"),
  },
];
