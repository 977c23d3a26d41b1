import type { Kysely } from "kysely";
import type { Tables } from "./tables.js";

/** SQLite takes 32,766 parameters in a statement: 500 rows of 60 columns would still fit. */
const ROWS_PER_STATEMENT = 500;

type AnyRow = Record<string, unknown>;

/** Inserts whole records, or replaces those whose id is there already. No id may come twice. */
export async function upsert<Table extends keyof Tables & string>(
  db: Kysely<Tables>,
  table: Table,
  rows: Tables[Table][],
): Promise<void> {
  const columns = Object.keys(rows[0] ?? {}).filter((column) => column !== "id");
  // Kysely cannot follow a table that is a type parameter; the rows are typed above.
  const untyped = db as unknown as Kysely<Record<string, AnyRow>>;
  for (const chunk of inChunks(rows, ROWS_PER_STATEMENT))
    await untyped
      .insertInto(table as string)
      .values(chunk as AnyRow[])
      .onConflict((conflict) =>
        conflict
          .column("id")
          .doUpdateSet((is) =>
            Object.fromEntries(columns.map((column) => [column, is.ref(`excluded.${column}`)])),
          ),
      )
      .execute();
}

export function* inChunks<Item>(items: Item[], size: number): Generator<Item[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size);
}
