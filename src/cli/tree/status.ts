import type { CommandSpec } from "../tree.js";

/** The commands that tell how it all is doing. */
export const STATUS_COMMANDS: CommandSpec[] = [
  {
    usage: "status",
    summary: "how it all is doing, on one screen, and what to do next",
    options: [
      [
        "--check",
        "one line, and exit 0 ok, 1 warning, 2 critical, 3 unknown: for Nagios, Icinga and their kin, from any host",
      ],
      ["--watch", "draw it anew every five seconds, until Ctrl-C"],
    ],
    examples: [
      ["jbackup status", "health, runs, storages, window, objectives"],
      ["jbackup status --check", "for monitoring"],
      ["jbackup status --json | jq '.health.score, .next.command'", "the score, and the next thing to do"],
      ["jbackup status --json | jq '.storages[] | {name, daysUntilFull}'", "for scripts"],
    ],
    exits: [0, 1, 2, 3],
    load: () => import("../commands/status.js"),
  },
  {
    usage: "metrics",
    summary: "the same in numbers, for Prometheus",
    options: [
      ["--out <file>", "into this file, replaced in one step: for node_exporter's textfile collector"],
      ["--listen <address>", "serve /metrics and /healthz on HOST:PORT until stopped"],
    ],
    examples: [
      ["jbackup metrics --out /var/lib/node_exporter/jbackup.prom", "for cron, every minute"],
      ["jbackup metrics --listen 127.0.0.1:9187", "as a service"],
      ["jbackup metrics | grep rpo_seconds", "by hand"],
    ],
    exits: [0, 1, 2, 16],
    load: () => import("../commands/metrics.js"),
  },
  {
    usage: "storages harden",
    summary: "what the credentials of each storage may do, and how to set it so that a thief cannot delete",
    options: [
      ["--check", "try it for real, with an object that is taken away again; exit 4 when they may delete"],
    ],
    examples: [
      ["jbackup storages harden", "what to set, in the commands of each provider"],
      ["jbackup storages harden --check", "what is really so"],
      ["jbackup storages harden --check --json | jq '.[] | {storage, mayDestroy}'", "for scripts"],
    ],
    exits: [0, 1, 2, 4],
    load: () => import("../commands/storagesHarden.js"),
  },
];
