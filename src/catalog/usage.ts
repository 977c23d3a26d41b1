import { sql, type Transaction } from "kysely";
import type { StorageMeasure, StorageUse } from "../domain/storageUse.js";
import { isoTime, plainText } from "./rows.js";
import type { Tables } from "./tables.js";

type CountedCopy = Pick<Tables["copies"], "storage" | "status" | "bytes">;
type Change = Record<"stored" | "missing" | "damaged" | "bytes", number>;

/** What a change of copies means for the storages they are in. */
export class UsageTally {
  readonly #changes = new Map<string, Change>();

  /** `sign` is 1 for a copy that comes, -1 for one that goes. */
  add({ storage, status, bytes }: CountedCopy, kind: string, sign: 1 | -1): void {
    const change = this.#changes.get(storage) ?? { stored: 0, missing: 0, damaged: 0, bytes: 0 };
    this.#changes.set(storage, change);
    if (status === "stored" || status === "damaged") change.bytes += sign * bytes;
    // passes over the WAL are no copies that anybody counts
    if (kind !== "wal" && (status === "stored" || status === "missing" || status === "damaged"))
      change[status] += sign;
  }

  /** In one order for all writers, lest they deadlock. The row of the total is taken first and holds back the others. */
  async save(db: Transaction<Tables>, today: string): Promise<void> {
    for (const [storage, change] of [...this.#changes].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (Object.values(change).every((count) => count === 0)) continue;
      await db
        .insertInto("storage_usage")
        .values({ storage, ...change, measured_at: null })
        .onConflict((conflict) =>
          conflict.column("storage").doUpdateSet((is) => ({
            stored: is("storage_usage.stored", "+", is.ref("excluded.stored")),
            missing: is("storage_usage.missing", "+", is.ref("excluded.missing")),
            damaged: is("storage_usage.damaged", "+", is.ref("excluded.damaged")),
            bytes: is("storage_usage.bytes", "+", is.ref("excluded.bytes")),
          })),
        )
        .execute();
      await saveDay(db, storage, today);
    }
  }
}

/** What the total came to at the end of the day is what it comes to now. */
const saveDay = (db: Transaction<Tables>, storage: string, day: string): Promise<unknown> =>
  db
    .insertInto("storage_days")
    .columns(["storage", "day", "bytes"])
    .expression(
      db
        .selectFrom("storage_usage")
        .select(["storage", sql<string>`${day}`.as("day"), "bytes"])
        .where("storage", "=", storage),
    )
    .onConflict((conflict) =>
      conflict.columns(["storage", "day"]).doUpdateSet((is) => ({ bytes: is.ref("excluded.bytes") })),
    )
    .execute();

export async function saveMeasure(db: Transaction<Tables>, measure: StorageMeasure): Promise<void> {
  const storage = plainText(measure.storage);
  const measuredAt = isoTime(measure.at);
  const { bytes } = measure;
  await db
    .insertInto("storage_usage")
    .values({ storage, stored: 0, missing: 0, damaged: 0, bytes, measured_at: measuredAt })
    .onConflict((conflict) =>
      conflict.column("storage").doUpdateSet((is) => ({
        bytes: is.ref("excluded.bytes"),
        measured_at: is.ref("excluded.measured_at"),
      })),
    )
    .execute();
  await saveDay(db, storage, measuredAt.slice(0, 10));
}

/** In a transaction, so that totals and days are of the same moment. */
export async function storageUse(db: Transaction<Tables>, sinceDay: string): Promise<StorageUse[]> {
  const totals = await db.selectFrom("storage_usage").selectAll().orderBy("storage").execute();
  const days = await db
    .selectFrom("storage_days")
    .selectAll()
    .where("day", ">=", sinceDay)
    .orderBy("storage")
    .orderBy("day")
    .execute();
  return totals.map(({ measured_at, storage, stored, missing, damaged, bytes }) => ({
    storage,
    stored: Math.max(0, stored),
    missing: Math.max(0, missing),
    damaged: Math.max(0, damaged),
    // what was counted and what was measured may differ a little until the next measure
    bytes: Math.max(0, bytes),
    measuredAt: measured_at,
    days: days
      .filter((one) => one.storage === storage)
      .map((one) => ({ day: one.day, bytes: Math.max(0, one.bytes) })),
  }));
}
