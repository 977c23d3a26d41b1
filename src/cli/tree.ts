import type { ExitCode } from "../domain/errors.js";
import type { CommandRun } from "./context.js";
import { CONFIG_COMMANDS } from "./treeConfig.js";
import { KEEPING_COMMANDS } from "./treeKeeping.js";
import { RECOVERY_COMMANDS } from "./treeRecovery.js";
import { AT, QUEUE, SCHEDULE_COMMANDS } from "./treeSchedule.js";
import { START_COMMANDS } from "./treeStart.js";
import { STATUS_COMMANDS } from "./treeStatus.js";
import { TRUST_COMMANDS } from "./treeTrust.js";

export interface CommandSpec {
  /** Words after `jbackup`, with arguments as commander writes them: `restore [backup]`. */
  usage: string;
  summary: string;
  options?: [flags: string, description: string][];
  examples: [command: string, what: string][];
  exits: ExitCode[];
  /** For commands that PostgreSQL runs: every failure ends with this code, because it reads others as something else. */
  failureExit?: number;
  load: () => Promise<{ run: CommandRun }>;
}

export interface CommandGroup {
  name: string;
  summary: string;
}

export const GROUPS: CommandGroup[] = [
  { name: "backup", summary: "back up the database" },
  { name: "wal", summary: "the write-ahead log: for PostgreSQL's own settings, and what is stored of it" },
  { name: "tenants", summary: "whose rows are whose, and what is kept of each tenant" },
  { name: "keys", summary: "the keys that seal, open and sign backups" },
  { name: "catalog", summary: "the index of what was done" },
  { name: "audit", summary: "the log of who did what, chained so that no change goes unseen" },
  { name: "storages", summary: "the places where backups are kept" },
  { name: "schedule", summary: "what runs by itself, and when" },
  { name: "dr", summary: "the day of the disaster: runbooks and drills" },
  { name: "config", summary: "the configuration file" },
];

const LIST_OPTIONS: [string, string][] = [
  ["--since <time>", "only from this time on: 2026-11-20, 2026-11-20T02:00:00Z, or a span back such as 7d"],
  ["--limit <n>", "at most so many, newest first (default 50)"],
];

/** Every command of this version. A command's code is loaded when it runs. */
export const COMMANDS: CommandSpec[] = [
  ...START_COMMANDS,
  {
    usage: "backup full",
    summary: "back up the whole cluster into all storages",
    options: [
      ["--physical", "the cluster's files, for any moment in time (the default)"],
      ["--logical", "one database with pg_dump: restores into any newer PostgreSQL, or row by row"],
      ["--fresh", "store everything, not only what changed since the last backup"],
      ["--with-config", "back up configuration files, too: as jbackup backup config does"],
      ["--note <text>", "a remark that list and show repeat"],
      AT,
    ],
    examples: [
      ["jbackup backup full", "what changed since the last one, sealed, into every storage"],
      ["jbackup backup full --fresh", "begin anew: nothing of older backups is needed"],
      ['jbackup backup full --logical --note "before the upgrade"', "with pg_dump, with a remark"],
      ["jbackup backup full --json | jq .id", "for scripts"],
    ],
    exits: [0, 1, 2, 3, 4, 10, 11, 16, 130, 143],
    load: () => import("./commands/backupFull.js"),
  },
  {
    usage: "backup tenant",
    summary: "back up tenants, each by itself, all as of one moment",
    options: [
      ["--tenant <id...>", "these tenants, active or not"],
      ["--all", "every active tenant"],
      ...QUEUE,
      ["--accept-shrunken", "also tenants that are less than half of what they were"],
      ["--with-config", "back up configuration files, too: as jbackup backup config does"],
      ["--note <text>", "a remark that list and show repeat"],
      AT,
    ],
    examples: [
      ["jbackup backup tenant --all", "every active tenant, in one snapshot; for cron, every week"],
      [
        "jbackup backup tenant --tenant 7f3c... --note 'before the import'",
        "one, before somebody works on it",
      ],
      ["jbackup backup tenant --all --json | jq '.failed'", "for scripts"],
    ],
    exits: [0, 1, 2, 3, 4, 10, 11, 16, 130, 143],
    load: () => import("./commands/backupTenant.js"),
  },
  {
    usage: "backup wal",
    summary: "archive the write-ahead log up to now, or follow it",
    options: [
      ["--follow", "stream until stopped: seconds are lost at most, instead of minutes"],
      ["--with-config", "back up configuration files, too: as jbackup backup config does"],
      ["--note <text>", "a remark that list and show repeat"],
      AT,
    ],
    examples: [
      ["jbackup backup wal", "everything up to now; for cron, every five minutes"],
      ["jbackup backup wal --follow", "as a service; also for synchronous_standby_names"],
    ],
    exits: [0, 1, 2, 3, 10, 11, 16, 130, 143],
    load: () => import("./commands/backupWal.js"),
  },
  ...CONFIG_COMMANDS,
  {
    usage: "wal push <path>",
    summary: "archive one file of the WAL (for archive_command)",
    examples: [["archive_command = 'jbackup wal push %p'", "in postgresql.conf"]],
    exits: [0, 1],
    failureExit: 1,
    load: () => import("./commands/walPush.js"),
  },
  {
    usage: "wal fetch <name> <path>",
    summary: "bring one file of the WAL back (for restore_command)",
    options: [["--ahead", "bring the segments behind it for the next calls; jbackup starts this by itself"]],
    examples: [["restore_command = 'jbackup wal fetch %f %p'", "in postgresql.conf of a standby"]],
    exits: [0, 1],
    failureExit: 126,
    load: () => import("./commands/walFetch.js"),
  },
  {
    usage: "wal status",
    summary: "how far back and how far on a recovery can go, and whether anything is missing",
    examples: [
      ["jbackup wal status", "window, holes, slot, pg_wal"],
      ["jbackup wal status --json | jq .window", "for monitoring"],
    ],
    exits: [0, 1, 2, 4],
    load: () => import("./commands/walStatus.js"),
  },
  {
    usage: "restore [backup]",
    summary: "bring a backup back (BACKUP: id, label, beginning of either, or latest)",
    options: [
      [
        "--mode <mode>",
        "full: all of it; merge: add what is missing to the live database; pitr: a moment in time",
      ],
      ["--to <target>", "a time with its zone, an LSN, a restore point's name, or latest"],
      ["--into-dir <directory>", "the whole cluster, as files in this directory"],
      ["--delta", "with --into-dir: keep what is right there, write only what differs"],
      ["--start", "with --into-dir: leave the server running on it"],
      ["--config-files", "configuration files: the newest backup of them, or the named one"],
      ["--paths <paths...>", "with --config-files: only these files and folders"],
      ["--tablespace <name=directory...>", "with --into-dir: another place for a tablespace"],
      ["--into-db <name>", "into a new database of this name"],
      [
        "--in-place",
        "the live database is emptied and filled in one transaction; configuration files go to their places",
      ],
      [
        "--on-conflict <policy>",
        "merge, when a row exists with other values: skip (default), overwrite, fail",
      ],
      ["--tables <tables...>", "merge, or bring a tenant back, in these tables only"],
      ["--tenant <id...>", "only these tenants, in their shared tables: nobody else's rows are touched"],
      ["--as-tenant <id>", "with --tenant: as another tenant, with keys of its own"],
      ["--create-missing", "with --tenant and merge: bring back rows that are gone (the default)"],
      ["--no-create-missing", "with --tenant and merge: leave gone what is gone"],
      ["--update-existing", "with --tenant and merge: rows become what the backup says"],
      ["--delete-new", "with --tenant and merge: rows that the backup does not know go"],
      ["--with-shared", "with --tenant: also missing rows of shared tables that it refers to"],
      ["--triggers <how>", "with --tenant: off (default) or fire"],
      [
        "--prove <how>",
        "with --tenant: counters (default), or full: every row of everybody else compared as well",
      ],
      ["--no-safety-backup", "with --tenant: do not back the tenant up before it is overwritten"],
      ["--expect-plan <hash>", "with --tenant: only if the plan is still that of the dry run"],
      ["--jobs <n>", "parallel pg_restore jobs (default: one per core, at least 4)"],
      ["--reason <text>", "why; recorded with the restore"],
      [
        "--confirm <name>",
        "the database or the directory that will be overwritten; the host's name for configuration files",
      ],
      ["--dry-run", "print the plan and change nothing"],
    ],
    examples: [
      ["jbackup restore --config-files --in-place --dry-run", "which configuration files differ, and how"],
      ["jbackup restore --dry-run", "what would happen"],
      [
        'jbackup restore latest --mode full --into-db shop_check --reason "monthly test"',
        "beside the live one",
      ],
      [
        'jbackup restore --mode pitr --to 2026-11-20T13:59:30Z --into-dir /var/lib/pg_13_59 --reason "bad deploy"',
        "the cluster as it was at that moment",
      ],
      [
        'jbackup restore --tenant 7f3c... --to 2026-11-20T13:59:30Z --confirm 7f3c... --reason "sales deleted"',
        "one tenant as it was at that moment; nobody else notices",
      ],
      [
        'jbackup restore full-20261120 --mode full --confirm shop --reason "bad migration"',
        "replace the live database; the old one is kept",
      ],
      [
        'jbackup restore latest --mode merge --tables app.sales --reason "rows deleted"',
        "bring missing rows back",
      ],
    ],
    exits: [0, 1, 2, 4, 10, 11, 12, 13, 14, 16, 130, 143],
    load: () => import("./commands/restore.js"),
  },
  ...STATUS_COMMANDS,
  ...TRUST_COMMANDS,
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
    load: () => import("./commands/list.js"),
  },
  {
    usage: "show <backup>",
    summary: "one backup: copies, contents, verifications, restores, alerts",
    examples: [
      ["jbackup show latest", "the newest one"],
      ["jbackup show full-20261120", "by the beginning of its label"],
    ],
    exits: [0, 1, 2, 4, 10],
    load: () => import("./commands/show.js"),
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
    load: () => import("./commands/restores.js"),
  },
  {
    usage: "tenants list",
    summary: "every tenant with its last backup",
    examples: [
      ["jbackup tenants list --json | jq '.[] | select(.lastBackupAt == null)'", "those without any"],
    ],
    exits: [0, 1, 2],
    load: () => import("./commands/tenantsList.js"),
  },
  {
    usage: "tenants coverage",
    summary: "what every table is to tenants, and what may go wrong",
    options: [["--check", "exit 4 when a table is not decided, or rows cross between tenants; for CI"]],
    examples: [
      ["jbackup tenants coverage", "every table with its class"],
      ["jbackup tenants coverage --check", "in the tests of every migration"],
    ],
    exits: [0, 1, 2, 4],
    load: () => import("./commands/tenantsCoverage.js"),
  },
  {
    usage: "tenants export [backup]",
    summary: "a tenant's data as files, to hand over",
    options: [
      ["--tenant <id...>", "whose data"],
      [
        "--format <format>",
        "csv: a file a table with a header (default); sql: COPY text and a script for psql",
      ],
      ["--out <directory>", "a new or empty folder (default: tenant-ID here)"],
    ],
    examples: [
      [
        "jbackup tenants export --tenant 7f3c... --format csv --out /tmp/for-customer",
        "from its newest backup",
      ],
    ],
    exits: [0, 1, 2, 4, 10, 12, 14],
    load: () => import("./commands/tenantsExport.js"),
  },
  {
    usage: "tenants erase-check",
    summary: "which backups and WAL still hold an erased tenant's data, and until when",
    options: [["--tenant <id...>", "who was erased"]],
    examples: [["jbackup tenants erase-check --tenant 7f3c...", "for the answer to the customer"]],
    exits: [0, 1, 2, 3],
    load: () => import("./commands/tenantsEraseCheck.js"),
  },
  ...KEEPING_COMMANDS,
  ...RECOVERY_COMMANDS,
  ...SCHEDULE_COMMANDS,
  {
    usage: "config show",
    summary: "the effective configuration, secrets as ***",
    options: [["--origin", "with the line that each value comes from"]],
    examples: [["jbackup config show --origin", "what is set and what is a default"]],
    exits: [0, 2],
    load: () => import("./commands/configShow.js"),
  },
  {
    usage: "config validate",
    summary: "check the file and fetch every secret it names",
    examples: [["jbackup config validate --config ./jbackup.yaml", "all problems at once"]],
    exits: [0, 2],
    load: () => import("./commands/configValidate.js"),
  },
  {
    usage: "demo",
    summary: "the whole story on a throwaway PostgreSQL, in about a minute",
    examples: [["jbackup demo", "four disasters, brought back and proved; leaves nothing behind"]],
    exits: [0, 1, 4, 16, 130, 143],
    load: () => import("./commands/demo.js"),
  },
  {
    usage: "completion <shell>",
    summary: "print a completion script for bash, zsh or fish",
    examples: [["source <(jbackup completion bash)", "in ~/.bashrc"]],
    exits: [0, 2],
    load: () => import("./commands/completion.js"),
  },
  {
    usage: "help [command...]",
    summary: "help for a command; help exit-codes explains those",
    examples: [
      ["jbackup help restore", "the same as jbackup restore --help"],
      ["jbackup help exit-codes", "what scripts can rely on"],
    ],
    exits: [0, 2],
    load: () => import("./commands/help.js"),
  },
];

export const GLOBAL_OPTIONS: [flags: string, description: string][] = [
  ["--config <file>", "configuration file (else $JBACKUP_CONFIG, ./jbackup.yaml, /etc/jbackup/jbackup.yaml)"],
  ["--json", "one JSON document on stdout"],
  ["--quiet", "no progress, no remarks; warnings and errors only"],
  ["--verbose", "more about errors"],
  ["--no-input", "ask nothing"],
];
