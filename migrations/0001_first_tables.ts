import { type Kysely, PostgresAdapter, sql } from "kysely";

// Times are ISO 8601 text in UTC with milliseconds and JSON is text, so that both databases hold the same values.
// The C collation makes PostgreSQL compare text byte by byte, as SQLite does: the order is the same,
// and an index on text also answers "begins with".
export async function up(db: Kysely<unknown>): Promise<void> {
  const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter;
  const text = isPostgres ? sql`text collate "C"` : sql`text`;
  const real = sql`double precision`;

  await db.schema
    .createTable("backups")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("label", text, (column) => column.notNull())
    .addColumn("kind", text, (column) => column.notNull())
    .addColumn("method", text)
    .addColumn("tenant_id", text)
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("created_at", text, (column) => column.notNull())
    .addColumn("finished_at", text)
    .addColumn("verified_at", text)
    .addColumn("duration_ms", real)
    .addColumn("raw_bytes", "bigint", (column) => column.notNull())
    .addColumn("stored_bytes", "bigint", (column) => column.notNull())
    .addColumn("compression_ratio", real)
    .addColumn("checksum", text)
    .addColumn("parent_id", text)
    .addColumn("note", text)
    .addColumn("created_by", text, (column) => column.notNull())
    .addColumn("job_id", text, (column) => column.notNull())
    .addColumn("warnings", text, (column) => column.notNull())
    .addColumn("metadata", text, (column) => column.notNull())
    .execute();

  await db.schema
    .createTable("copies")
    .addColumn("backup_id", text, (column) => column.notNull())
    .addColumn("storage", text, (column) => column.notNull())
    .addColumn("position", "integer", (column) => column.notNull())
    .addColumn("kind", text, (column) => column.notNull())
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("path", text, (column) => column.notNull())
    .addColumn("bytes", "bigint", (column) => column.notNull())
    .addColumn("verified_at", text)
    .addPrimaryKeyConstraint("copies_pkey", ["backup_id", "storage"])
    .addForeignKeyConstraint("copies_of_backup", ["backup_id"], "backups", ["id"], (key) =>
      key.onDelete("cascade"),
    )
    .execute();

  // No foreign keys from here on: a restore needs only a manifest, and a journal is replayed in any order.
  await db.schema
    .createTable("restores")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("backup_id", text, (column) => column.notNull())
    .addColumn("mode", text, (column) => column.notNull())
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("target", text, (column) => column.notNull())
    .addColumn("target_time", text)
    .addColumn("tenant_ids", text, (column) => column.notNull())
    .addColumn("rows_restored", "bigint", (column) => column.notNull())
    .addColumn("started_at", text, (column) => column.notNull())
    .addColumn("finished_at", text)
    .addColumn("duration_ms", real)
    .addColumn("tables", text, (column) => column.notNull())
    .addColumn("warnings", text, (column) => column.notNull())
    .addColumn("error", text)
    .addColumn("reason", text, (column) => column.notNull())
    .addColumn("initiated_by", text, (column) => column.notNull())
    .addColumn("job_id", text, (column) => column.notNull())
    .addColumn("metadata", text, (column) => column.notNull())
    .execute();

  await db.schema
    .createTable("verifications")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("backup_id", text)
    .addColumn("storage", text)
    .addColumn("level", text, (column) => column.notNull())
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("checked_at", text, (column) => column.notNull())
    .addColumn("duration_ms", real, (column) => column.notNull())
    .addColumn("problems", text, (column) => column.notNull())
    .addColumn("metadata", text, (column) => column.notNull())
    .execute();

  await db.schema
    .createTable("alerts")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("type", text, (column) => column.notNull())
    .addColumn("severity", text, (column) => column.notNull())
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("fingerprint", text, (column) => column.notNull())
    .addColumn("message", text, (column) => column.notNull())
    .addColumn("hint", text)
    .addColumn("backup_id", text)
    .addColumn("storage", text)
    .addColumn("created_at", text, (column) => column.notNull())
    .addColumn("last_seen_at", text, (column) => column.notNull())
    .addColumn("occurrences", "bigint", (column) => column.notNull())
    .addColumn("channels", text, (column) => column.notNull())
    .addColumn("sent_at", text)
    .addColumn("acknowledged_at", text)
    .addColumn("acknowledged_by", text)
    .addColumn("resolved_at", text)
    .addColumn("resolved_by", text)
    .addColumn("note", text)
    .addColumn("metadata", text, (column) => column.notNull())
    .execute();

  await db.schema
    .createTable("runs")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("job", text, (column) => column.notNull())
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("started_at", text, (column) => column.notNull())
    .addColumn("finished_at", text)
    .addColumn("host", text, (column) => column.notNull())
    .addColumn("pid", "bigint", (column) => column.notNull())
    .addColumn("exit_code", "integer")
    .addColumn("error", text)
    .addColumn("metadata", text, (column) => column.notNull())
    .execute();

  await db.schema
    .createTable("drills")
    .addColumn("id", text, (column) => column.primaryKey())
    .addColumn("runbook", text, (column) => column.notNull())
    .addColumn("drill", "integer", (column) => column.notNull())
    .addColumn("status", text, (column) => column.notNull())
    .addColumn("started_at", text, (column) => column.notNull())
    .addColumn("finished_at", text)
    .addColumn("rto_ms", real)
    .addColumn("rpo_ms", real)
    .addColumn("steps", text, (column) => column.notNull())
    .addColumn("initiated_by", text, (column) => column.notNull())
    .addColumn("metadata", text, (column) => column.notNull())
    .execute();

  await db.schema
    .createTable("audit")
    .addColumn("sequence", "bigint", (column) => column.primaryKey())
    .addColumn("previous_hash", text, (column) => column.notNull())
    .addColumn("hash", text, (column) => column.notNull())
    .addColumn("id", text, (column) => column.notNull().unique())
    .addColumn("at", text, (column) => column.notNull())
    .addColumn("actor", text, (column) => column.notNull())
    .addColumn("action", text, (column) => column.notNull())
    .addColumn("subject", text, (column) => column.notNull())
    .addColumn("detail", text, (column) => column.notNull())
    .execute();

  for (const [table, ...columns] of INDEXES) {
    const name = [table, ...columns].join("_");
    await db.schema.createIndex(name).on(table).columns(columns).execute();
  }
}

const INDEXES: [table: string, ...columns: string[]][] = [
  ["backups", "kind", "created_at"],
  ["backups", "tenant_id", "created_at"],
  ["backups", "status"],
  ["backups", "created_at"],
  ["backups", "label"],
  ["restores", "started_at"],
  ["restores", "status"],
  ["restores", "backup_id", "started_at"],
  ["verifications", "backup_id", "checked_at"],
  ["alerts", "type", "created_at"],
  ["alerts", "severity", "status"],
  ["alerts", "status", "created_at"],
  ["alerts", "created_at"],
  ["alerts", "fingerprint"],
  ["alerts", "backup_id"],
  ["runs", "job", "started_at"],
  ["runs", "started_at"],
  ["drills", "runbook", "started_at"],
  ["drills", "started_at"],
];
