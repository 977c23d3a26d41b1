import type { CommandSpec } from "../tree.js";

/** The commands for the day of the disaster, and for practising it. */
export const RECOVERY_COMMANDS: CommandSpec[] = [
  {
    usage: "dr list",
    summary: "the runbooks there are, and when each was run and practised",
    examples: [["jbackup dr list", "by what is seen of a disaster"]],
    exits: [0, 1, 2],
    load: () => import("../commands/drList.js"),
  },
  {
    usage: "dr check",
    summary: "check every runbook, by itself, as a drill, and against this site",
    examples: [["jbackup dr check", "after changing a runbook or the configuration"]],
    exits: [0, 1, 2],
    load: () => import("../commands/drCheck.js"),
  },
  {
    usage: "dr run [runbook]",
    summary: "carry a runbook out, for real or as a drill, with the clock on",
    options: [
      ["--drill", "practise it on a scratch server: harmless, and nobody is asked"],
      ["--resume", "go on with the run that was cut off or stopped, whoever began it"],
      ["--abort", "end the run that was cut off or stopped, and take back what can be"],
      ["--incident-at <time>", "since when the business is down: the clock counts from there (default: now)"],
      ["--set <name=value...>", "what the runbook's variables are"],
      ["--confirm <name...>", "the names that its confirm steps ask for"],
      ["--yes", "take its manual steps as done, and do again what may have been cut off half-done"],
    ],
    examples: [
      ["jbackup dr run", "choose by what you see"],
      ["jbackup dr run server-lost --drill", "practise it; for cron, every month"],
      [
        "jbackup dr run server-lost --incident-at 20m --set directory=/var/lib/postgresql/16/main",
        "for real; down since 20 minutes",
      ],
      ["jbackup dr run --resume", "after a crash, a closed laptop or a reboot"],
    ],
    exits: [0, 1, 2, 3, 4, 10, 11, 13, 14, 15, 16, 130, 143],
    load: () => import("../commands/drRun.js"),
  },
  {
    usage: "dr report [run]",
    summary: "the report of a run: timeline, decisions, evidence, time and work lost",
    examples: [
      ["jbackup dr report", "the newest run"],
      ["jbackup dr report 0198c --json", "for the archive"],
    ],
    exits: [0, 1, 2, 10],
    load: () => import("../commands/drReport.js"),
  },
];
