import type { Transaction } from "kysely";
import type { Backup, Copy } from "../domain/backup.js";
import type { BackupFilter } from "./catalog.js";
import { backupQuery, beginningWith, named } from "./queries.js";
import { inChunks, upsert } from "./records.js";
import { fromRow, isoTime, plainText, toRow } from "./rows.js";
import { backupLayout, copyLayout, type Tables } from "./tables.js";

/** SQLite takes 32,766 parameters in a statement. */
const IDS_PER_STATEMENT = 20_000;
const COPIES_PER_STATEMENT = 2_000;

export async function saveBackups(db: Transaction<Tables>, backups: Backup[]): Promise<void> {
  // One row per id, as a statement may not touch a row twice; in one order for all writers, lest they deadlock.
  const latest = new Map(backups.map((backup) => [backup.id, backup]));
  const ordered = [...latest.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const heads = ordered.map((backup) => toRow(backupLayout, { ...backup, verifiedAt: lastCheckOf(backup) }));
  const copies = ordered.flatMap((backup) =>
    backup.copies.map((copy, position) => toRow(copyLayout, { ...copy, backupId: backup.id, position })),
  );
  await upsert(db, "backups", heads);
  for (const chunk of inChunks(heads, IDS_PER_STATEMENT))
    await db.deleteFrom("copies").where("backup_id", "in", chunk.map(idOf)).execute();
  for (const chunk of inChunks(copies, COPIES_PER_STATEMENT))
    await db.insertInto("copies").values(chunk).execute();
}

const idOf = (row: { id: string }): string => row.id;

const lastCheckOf = (backup: Backup): string | null =>
  backup.copies
    .flatMap((copy) => copy.verifiedAt ?? [])
    .map(isoTime)
    .sort()
    .at(-1) ?? null;

/** In a transaction, so that a backup and its copies are of the same moment. */
export async function findBackups(db: Transaction<Tables>, filter: BackupFilter): Promise<Backup[]> {
  const rows = await headsFor(db, filter);
  const copies = await copiesOf(db, rows.map(idOf));
  return rows.map((row) => {
    const { verifiedAt: _, ...head } = fromRow(backupLayout, row);
    return { ...head, copies: copies.get(row.id) ?? [] };
  });
}

const USABLE: Backup["status"][] = ["completed", "verified"];

/** Ids are UUIDv7, so the greatest of a tenant is its newest. */
export async function lastOfTenants(db: Transaction<Tables>, ids: string[] | "all"): Promise<Backup[]> {
  const found: Backup[] = [];
  for (const wanted of ids === "all" ? [null] : inChunks([...new Set(ids)], IDS_PER_STATEMENT)) {
    let newest = db
      .selectFrom("backups")
      .select(({ fn }) => fn.max("id").as("id"))
      .where("kind", "=", "tenant")
      .where("status", "in", USABLE)
      // one that was taken out of an older backup tells of the past
      .where("parent_id", "is", null)
      .groupBy("tenant_id");
    if (wanted !== null) newest = newest.where("tenant_id", "in", wanted.map(plainText));
    const rows = await db.selectFrom("backups").selectAll().where("id", "in", newest).execute();
    const copies = await copiesOf(db, rows.map(idOf));
    for (const row of rows) {
      const { verifiedAt: _, ...head } = fromRow(backupLayout, row);
      found.push({ ...head, copies: copies.get(row.id) ?? [] });
    }
  }
  return found;
}

async function headsFor(db: Transaction<Tables>, filter: BackupFilter): Promise<Tables["backups"][]> {
  const query = backupQuery(db, filter);
  if (filter.reference === undefined) return query.execute();
  const reference = plainText(filter.reference);
  if (reference === "") return [];
  const exact = await named(query, reference).execute();
  return exact.length > 0 ? exact : beginningWith(query, reference).execute();
}

async function copiesOf(db: Transaction<Tables>, ids: string[]): Promise<Map<string, Copy[]>> {
  const found = new Map<string, Copy[]>();
  for (const chunk of inChunks(ids, IDS_PER_STATEMENT)) {
    const rows = await db
      .selectFrom("copies")
      .selectAll()
      .where("backup_id", "in", chunk)
      .orderBy("backup_id")
      .orderBy("position")
      .execute();
    for (const row of rows) {
      const { backupId, position: _, ...copy } = fromRow(copyLayout, row);
      const siblings = found.get(backupId);
      if (siblings) siblings.push(copy);
      else found.set(backupId, [copy]);
    }
  }
  return found;
}
