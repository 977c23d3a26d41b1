import type { CommandSpec } from "../tree.js";

/** Whose rows are whose. */
export const TENANT_COMMANDS: CommandSpec[] = [
  {
    usage: "tenants list",
    summary: "every tenant with its last backup",
    examples: [
      ["jbackup tenants list --json | jq '.[] | select(.lastBackupAt == null)'", "those without any"],
    ],
    exits: [0, 1, 2],
    load: () => import("../commands/tenantsList.js"),
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
    load: () => import("../commands/tenantsCoverage.js"),
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
    load: () => import("../commands/tenantsExport.js"),
  },
  {
    usage: "tenants erase-check",
    summary: "which backups and WAL still hold an erased tenant's data, and until when",
    options: [["--tenant <id...>", "who was erased"]],
    examples: [["jbackup tenants erase-check --tenant 7f3c...", "for the answer to the customer"]],
    exits: [0, 1, 2, 3],
    load: () => import("../commands/tenantsEraseCheck.js"),
  },
];
