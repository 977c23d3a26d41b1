import type { CommandSpec } from "../tree.js";
import { AT, QUEUE } from "./schedule.js";

/** The commands that take backups of the database. */
export const BACKUP_COMMANDS: CommandSpec[] = [
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
    load: () => import("../commands/backupFull.js"),
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
    load: () => import("../commands/backupTenant.js"),
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
    load: () => import("../commands/backupWal.js"),
  },
];
