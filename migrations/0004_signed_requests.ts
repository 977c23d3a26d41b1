import { type Kysely, sql } from "kysely";

// Whoever can write to the catalog's database must not be able to order a run: what is wanted once is signed.
export async function up(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .alterTable("job_requests")
    .addColumn("signature", sql`text`, (column) => column.notNull().defaultTo("null"))
    .execute();
}
