import type { ExitCode } from "../domain/errors.js";
import type { CommandRun } from "./context.js";
import { BACKUP_COMMANDS } from "./tree/backup.js";
import { CONFIG_COMMANDS } from "./tree/config.js";
import { HISTORY_COMMANDS } from "./tree/history.js";
import { KEEPING_COMMANDS } from "./tree/keeping.js";
import { RECOVERY_COMMANDS } from "./tree/recovery.js";
import { RESTORE_COMMANDS } from "./tree/restore.js";
import { SCHEDULE_COMMANDS } from "./tree/schedule.js";
import { START_COMMANDS } from "./tree/start.js";
import { STATUS_COMMANDS } from "./tree/status.js";
import { TENANT_COMMANDS } from "./tree/tenants.js";
import { TRUST_COMMANDS } from "./tree/trust.js";
import { WAL_COMMANDS } from "./tree/wal.js";

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

/** Every command of this version. A command's code is loaded when it runs. */
export const COMMANDS: CommandSpec[] = [
  ...START_COMMANDS,
  ...BACKUP_COMMANDS,
  ...CONFIG_COMMANDS,
  ...WAL_COMMANDS,
  ...RESTORE_COMMANDS,
  ...STATUS_COMMANDS,
  ...TRUST_COMMANDS,
  ...HISTORY_COMMANDS,
  ...TENANT_COMMANDS,
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
    exits: [0, 2, 12],
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

/** What these print is what they are called for: --quiet leaves it alone. Whatever else succeeds is quiet then. */
const ASKED = new Set([
  ...["list", "show", "restores", "alerts", "status", "metrics", "demo", "completion", "help"],
  ...["audit show", "audit export", "keys new", "keys list", "keys kit", "schedule show", "wal status"],
  ...["tenants list", "tenants coverage", "tenants export", "tenants erase-check"],
  ...["dr list", "dr report", "config show"],
]);

export const isAsked = ({ usage }: CommandSpec): boolean => ASKED.has(usage.replace(/ [<[].*/, ""));

export const GLOBAL_OPTIONS: [flags: string, description: string][] = [
  ["--config <file>", "configuration file (else $JBACKUP_CONFIG, ./jbackup.yaml, /etc/jbackup/jbackup.yaml)"],
  // node takes --env-file for itself, wherever it stands
  ["--environment-file <file>", "a file of NAME=value lines to add to the environment, if it is there"],
  ["--json", "one JSON document on stdout"],
  [
    "--quiet",
    "no progress, no remarks; what succeeds says nothing, unless it was asked for something (list, show)",
  ],
  ["--verbose", "more about errors"],
  ["--no-input", "ask nothing"],
];
