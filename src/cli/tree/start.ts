import type { CommandSpec } from "../tree.js";

/** The commands that one begins with. */
export const START_COMMANDS: CommandSpec[] = [
  {
    usage: "init",
    summary: "set a site up: configuration, keys, recovery kit, first backup",
    options: [
      ["--yes", "ask nothing: take the defaults, and what the flags say"],
      ["--out <file>", "the configuration to write (default: jbackup.yaml here); never overwritten"],
      [
        "--kit <file>",
        "the recovery kit to write (default: jbackup-recovery-kit.txt beside the configuration)",
      ],
      [
        "--database-url <url>",
        "postgresql://USER@HOST/DATABASE, or postgresql:///DATABASE with ?host=/SOCKET/FOLDER",
      ],
      ["--site <name>", "the name that backups bear (default: the database's)"],
      [
        "--storage <place...>",
        "NAME=/FOLDER, NAME=s3:ADDRESS/BUCKET/PREFIX or NAME=b2:BUCKET/PREFIX; the variables NAME_ID and NAME_SECRET (b2: NAME_KEY) hold the credentials",
      ],
      ["--tenants <table>", "the table with a row for each tenant, or none (default: what the schema tells)"],
      ["--shared <tables...>", "tables that all tenants use"],
      ["--exclude <tables...>", "tables that are no tenant's"],
      ["--transient <tables...>", "queues, sessions, tokens: a restore must not revive them"],
      ["--keep <span>", "weeks, months or years (default: months)"],
      ["--hour <n>", "the quiet hour of the night, 0 to 23, UTC (default: 2)"],
      [
        "--alerts <where>",
        "email:ADDRESS, webhook, slack or none (default: none); the variable SMTP_URL or HOOK_URL holds the address",
      ],
      ["--skip-backup", "write the configuration only"],
    ],
    examples: [
      ["jbackup init", "asks, shows what it found, and writes at the end"],
      ["jbackup init --yes", "the only PostgreSQL of this host, into a folder of this host"],
      [
        "jbackup init --yes --database-url postgresql:///shop --storage local=/var/backups/shop r2=s3:https://ACCOUNT.r2.cloudflarestorage.com/shop/prod",
        "for scripts; R2_ID and R2_SECRET hold the credentials",
      ],
    ],
    exits: [0, 1, 2, 3, 10, 11, 13, 14, 16, 130, 143],
    load: () => import("../commands/init.js"),
  },
];
