import type { CommandSpec } from "../tree.js";

/** The commands that look after what is stored. */
export const TRUST_COMMANDS: CommandSpec[] = [
  {
    usage: "verify [backup]",
    summary: "look at what is really stored, and mend it (default: the newest full backup)",
    options: [
      ["--all", "every backup, and the WAL"],
      [
        "--level <level>",
        "stored: sizes and digests, no key needed (default); sealed: every frame opens; content: it makes sense; restore: restored on a throwaway server and looked at",
      ],
      ["--heal", "replace what is missing or damaged from a good copy, and read it back"],
      ["--share <share>", "with --all: only today's part; 7/day reads everything within a week"],
      ["--storage <name>", "only in this storage"],
      [
        "--tenant-sample <n>",
        "with --level restore: so many tenants are compared and brought back (default: testRestore.tenants, or 1)",
      ],
      [
        "--report <file>",
        "with --level restore: write the report here as well, as .html, .json or .txt (it is always kept in $JBACKUP_HOME/reports)",
      ],
      [
        "--check-report <file>",
        "whether a report (.json or .html) is as it was signed; nothing else is done",
      ],
    ],
    examples: [
      ["jbackup verify", "the newest full backup, in all storages"],
      ["jbackup verify --all --share 7/day --heal", "for cron, every day: everything within a week"],
      ["jbackup verify full-20261120 --level sealed", "one backup, every frame opened"],
      [
        "jbackup verify --level restore --report proof.html",
        "a test restore: the newest full backup with all WAL, timed, checked, with a report for the auditor",
      ],
      ["jbackup verify --all --json | jq '.problems'", "for scripts"],
    ],
    exits: [0, 1, 2, 4, 10, 11, 12, 15, 16, 130, 143],
    load: () => import("../commands/verify.js"),
  },
  {
    usage: "cleanup",
    summary: "remove what no retention rule keeps",
    options: [
      ["--dry-run", "show what would be kept and removed, with the reasons, and change nothing"],
      ["--confirm <site>", "the site's name, when more than a fifth of a storage's backups would go"],
    ],
    examples: [
      ["jbackup cleanup --dry-run", "every backup in every storage, and why it stays or goes"],
      ["jbackup cleanup", "for cron, every day"],
    ],
    exits: [0, 1, 2, 3, 10, 11, 13, 16, 130, 143],
    load: () => import("../commands/cleanup.js"),
  },
  {
    usage: "pin <backup>",
    summary: "hold a backup, whatever the retention says",
    options: [
      ["--reason <text>", "why; for whoever finds it later"],
      ["--until <time>", "a day, a time with its zone, or a span such as 90d (default: until unpin)"],
    ],
    examples: [['jbackup pin full-20261120 --reason "audit 2026" --until 2027-12-31', "with an end"]],
    exits: [0, 1, 2, 10],
    load: () => import("../commands/pin.js"),
  },
  {
    usage: "unpin <backup>",
    summary: "let the retention decide again",
    examples: [["jbackup unpin full-20261120", "the next cleanup may remove it"]],
    exits: [0, 1, 2, 10],
    load: () => import("../commands/unpin.js"),
  },
  {
    usage: "audit show",
    summary: "who did what: restores, deletions, keys, acknowledgements",
    options: [["--limit <n>", "at most so many, newest first (default 50)"]],
    examples: [["jbackup audit show --limit 20", "the newest 20 entries"]],
    exits: [0, 1, 2],
    load: async () => ({ run: (await import("../commands/audit.js")).show }),
  },
  {
    usage: "audit check",
    summary: "prove that no entry was changed or removed, also by what signed manifests know of the audit",
    examples: [["jbackup audit check --json | jq .head", "keep the head elsewhere as well"]],
    exits: [0, 1, 2, 4],
    load: async () => ({ run: (await import("../commands/audit.js")).check }),
  },
  {
    usage: "audit export",
    summary: "every entry as a line of JSON",
    options: [["--out <file>", "into this file (default: standard output)"]],
    examples: [["jbackup audit export --out audit.jsonl", "for the system that keeps logs"]],
    exits: [0, 1, 2],
    load: async () => ({ run: (await import("../commands/audit.js")).exportAll }),
  },
  {
    usage: "alerts [action] [id]",
    summary: "what went wrong and is not yet resolved; ack, resolve, test, check",
    options: [
      ["--status <status>", "active, acknowledged, resolved, or all (default: active and acknowledged)"],
      ["--note <text>", "with ack and resolve: what is being done, or was"],
      [
        "--since <time>",
        "only from this time on: 2026-11-20, 2026-11-20T02:00:00Z, or a span back such as 7d",
      ],
      ["--limit <n>", "at most so many, newest first (default 50)"],
    ],
    examples: [
      ["jbackup alerts", "open troubles"],
      [
        'jbackup alerts ack 019ac... --note "new disk ordered"',
        "somebody takes care of it: no more reminders",
      ],
      ["jbackup alerts test", "a message through every channel"],
      ["jbackup alerts check", "look for runs that are missing, and send what waits; for cron"],
    ],
    exits: [0, 1, 2, 10],
    load: () => import("../commands/alerts.js"),
  },
];
