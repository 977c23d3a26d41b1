import { type Kysely, PostgresAdapter, sql } from "kysely";

// What each storage holds, kept along with the copies, because a million of them cannot be counted for every look at a
// status; its history by days; and the indexes that answer "the last of each kind, of each tenant" in such a catalog.
export async function up(db: Kysely<unknown>): Promise<void> {
  const isPostgres = db.getExecutor().adapter instanceof PostgresAdapter;
  const text = isPostgres ? sql`text collate "C"` : sql`text`;
  // a sum that outgrows whole numbers must never keep a backup from being recorded
  const real = sql`double precision`;

  await db.schema
    .createTable("storage_usage")
    .addColumn("storage", text, (column) => column.primaryKey())
    .addColumn("stored", "bigint", (column) => column.notNull())
    .addColumn("missing", "bigint", (column) => column.notNull())
    .addColumn("damaged", "bigint", (column) => column.notNull())
    .addColumn("bytes", real, (column) => column.notNull())
    .addColumn("measured_at", text)
    .execute();

  await db.schema
    .createTable("storage_days")
    .addColumn("storage", text, (column) => column.notNull())
    .addColumn("day", text, (column) => column.notNull())
    .addColumn("bytes", real, (column) => column.notNull())
    .addPrimaryKeyConstraint("storage_days_pkey", ["storage", "day"])
    .execute();

  await countWhatIsThere(db as Kysely<Counted>);

  // Nearly every backup is usable: an index on all statuses is only ever chosen by mistake.
  await db.schema.dropIndex("backups_status").execute();
  await db.schema
    .createIndex("backups_unusable")
    .on("backups")
    .columns(["status", "created_at"])
    .where(sql<boolean>`status in ('in_progress', 'failed', 'interrupted')`)
    .execute();
  await db.schema.dropIndex("restores_status").execute();
  await db.schema
    .createIndex("restores_unfinished")
    .on("restores")
    .columns(["status", "started_at"])
    .where(sql<boolean>`status in ('in_progress', 'failed', 'cancelled')`)
    .execute();
  await db.schema
    .createIndex("backups_last_of_tenant")
    .on("backups")
    .columns(["tenant_id", "id"])
    .where(
      sql<boolean>`kind || '' = 'tenant' and status in ('completed', 'verified') and parent_id is null and tenant_id is not null`,
    )
    .execute();
}

interface Counted {
  backups: { id: string; created_at: string; kind: string };
  copies: { backup_id: string; storage: string; status: string; bytes: number };
  storage_usage: {
    storage: string;
    stored: number;
    missing: number;
    damaged: number;
    bytes: number;
    measured_at: string | null;
  };
  storage_days: { storage: string; day: string; bytes: number };
}

/** Passes over the WAL are no copies that anybody counts; what they stored takes room all the same. */
async function countWhatIsThere(db: Kysely<Counted>): Promise<void> {
  const held = sql<number>`coalesce(sum(copies.bytes) filter (where copies.status in ('stored', 'damaged')), 0)`;
  const counted = (status: string) =>
    sql<number>`count(*) filter (where backups.kind <> 'wal' and copies.status = ${sql.lit(status)})`;
  await db
    .insertInto("storage_usage")
    .columns(["storage", "stored", "missing", "damaged", "bytes"])
    .expression(
      db
        .selectFrom("copies")
        .innerJoin("backups", "backups.id", "copies.backup_id")
        .select([
          "copies.storage",
          counted("stored").as("stored"),
          counted("missing").as("missing"),
          counted("damaged").as("damaged"),
          held.as("bytes"),
        ])
        .groupBy("copies.storage"),
    )
    .execute();
  const day = sql<string>`substr(backups.created_at, 1, 10)`;
  await db
    .insertInto("storage_days")
    .columns(["storage", "day", "bytes"])
    .expression(
      db
        .selectFrom("copies")
        .innerJoin("backups", "backups.id", "copies.backup_id")
        .select([
          "copies.storage",
          day.as("day"),
          sql<number>`sum(${held}) over (partition by copies.storage order by ${day})`.as("bytes"),
        ])
        .groupBy(["copies.storage", day]),
    )
    .execute();
}
