import { type Kysely, PostgresAdapter, sql } from "kysely";

// Pins, the outbox of alerts, jobs that are wanted once; and what the checks of one level or one storage are found by.
export async function up(db: Kysely<unknown>): Promise<void> {
  const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter;
  const text = isPostgres ? sql`text collate "C"` : sql`text`;

  await db.schema
    .createTable("pins")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("backup_id", text, (column) => column.notNull())
    .addColumn("reason", text, (column) => column.notNull())
    .addColumn("until", text)
    .addColumn("created_at", text, (column) => column.notNull())
    .addColumn("created_by", text, (column) => column.notNull())
    .addColumn("removed_at", text)
    .addColumn("removed_by", text)
    .execute();

  await db.schema
    .createTable("deliveries")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("alert_id", text)
    .addColumn("channel", text, (column) => column.notNull())
    .addColumn("event", text, (column) => column.notNull())
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("payload", text, (column) => column.notNull())
    .addColumn("attempts", "integer", (column) => column.notNull())
    .addColumn("next_attempt_at", text)
    .addColumn("created_at", text, (column) => column.notNull())
    .addColumn("sent_at", text)
    .addColumn("error", text)
    .execute();

  await db.schema
    .createTable("job_requests")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("job", text, (column) => column.notNull())
    .addColumn("args", text, (column) => column.notNull())
    .addColumn("due_at", text, (column) => column.notNull())
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("created_at", text, (column) => column.notNull())
    .addColumn("created_by", text, (column) => column.notNull())
    .addColumn("claimed_at", text)
    .addColumn("claimed_by", text)
    .addColumn("finished_at", text)
    .addColumn("exit_code", "integer")
    .addColumn("error", text)
    .execute();

  for (const [table, ...columns] of INDEXES)
    await db.schema
      .createIndex([table, ...columns].join("_"))
      .on(table)
      .columns(columns)
      .execute();
}

const INDEXES: [table: string, ...columns: string[]][] = [
  ["pins", "backup_id"],
  ["deliveries", "status", "created_at"],
  ["deliveries", "alert_id", "created_at"],
  ["deliveries", "channel", "created_at"],
  ["job_requests", "status", "due_at"],
  ["verifications", "level", "checked_at"],
  ["verifications", "storage", "checked_at"],
];
