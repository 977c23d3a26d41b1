import type { CommandSpec } from "../tree.js";

/** The way back. */
export const RESTORE_COMMANDS: CommandSpec[] = [
  {
    usage: "restore [backup]",
    summary: "bring a backup back (BACKUP: id, label, beginning of either, or latest)",
    options: [
      [
        "--mode <mode>",
        "full: all of it; merge: add what is missing to the live database; pitr: a moment in time",
      ],
      ["--to <target>", "a time with its zone, an LSN, a restore point's name, or latest"],
      [
        "--timeline <timeline>",
        "with --to: follow this timeline (2, 0x1A, or latest) instead of the one that was in force then",
      ],
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
    load: () => import("../commands/restore.js"),
  },
];
