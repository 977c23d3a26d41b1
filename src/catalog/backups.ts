import { sql, type Transaction } from "kysely";
import type { Backup, Copy } from "../domain/backup.js";
import type { BackupFilter, TenantPage } from "./catalog.js";
import { backupQuery, beginningWith, named } from "./queries.js";
import { inChunks, upsert } from "./records.js";
import { fromRow, isoTime, plainText, toRow } from "./rows.js";
import { backupLayout, copyLayout, type Tables } from "./tables.js";
import { UsageTally } from "./usage.js";

/** SQLite takes 32,766 parameters in a statement. */
const IDS_PER_STATEMENT = 20_000;
const COPIES_PER_STATEMENT = 2_000;
const TENANTS_PER_STATEMENT = 5_000;

export async function saveBackups(db: Transaction<Tables>, backups: Backup[], today: string): Promise<void> {
  // One row per id, as a statement may not touch a row twice; in one order for all writers, lest they deadlock.
  const latest = new Map(backups.map((backup) => [backup.id, backup]));
  const ordered = [...latest.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const heads = ordered.map((backup) => toRow(backupLayout, { ...backup, verifiedAt: lastCheckOf(backup) }));
  const copies = ordered.flatMap((backup) =>
    backup.copies.map((copy, position) => toRow(copyLayout, { ...copy, backupId: backup.id, position })),
  );
  await upsert(db, "backups", heads);
  // only now is what was there before read: whoever saves one of these at the same moment has waited for us, or we for him
  const kinds = new Map(heads.map(({ id, kind }) => [id, kind]));
  const tally = new UsageTally();
  const count = (copy: Tables["copies"], sign: 1 | -1): void =>
    tally.add(copy, kinds.get(copy.backup_id) ?? "", sign);
  for (const chunk of inChunks(heads, IDS_PER_STATEMENT)) {
    for (const copy of await copyRows(db, chunk.map(idOf))) count(copy, -1);
    await db.deleteFrom("copies").where("backup_id", "in", chunk.map(idOf)).execute();
  }
  for (const chunk of inChunks(copies, COPIES_PER_STATEMENT))
    await db.insertInto("copies").values(chunk).execute();
  for (const copy of copies) count(copy, 1);
  await tally.save(db, today);
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

/** Ids are UUIDv7, so the greatest of a tenant is its newest. */
export async function lastOfTenants(
  db: Transaction<Tables>,
  wanted: string[] | TenantPage,
): Promise<Backup[]> {
  const tenants = Array.isArray(wanted)
    ? [...new Set(wanted.map(plainText))]
    : await tenantsKnown(db, wanted);
  const found: Backup[] = [];
  for (const some of inChunks(tenants, TENANTS_PER_STATEMENT)) {
    const ids = await lastIdsOf(db, some);
    if (ids.length === 0) continue;
    const rows = await db.selectFrom("backups").selectAll().where("id", "in", ids).execute();
    const copies = await copiesOf(db, rows.map(idOf));
    const byTenant = new Map(rows.map((row) => [row.tenant_id, row]));
    for (const tenant of some) {
      const row = byTenant.get(tenant);
      if (row === undefined) continue;
      const { verifiedAt: _, ...head } = fromRow(backupLayout, row);
      found.push({ ...head, copies: copies.get(row.id) ?? [] });
    }
  }
  return found;
}

/**
 * As the index of these backups has it, and so that no index on kinds is taken instead. One that was taken out of an older
 * backup tells of the past.
 */
const IS_TENANTS_OWN = sql<boolean>`kind || '' = 'tenant' and status in ('completed', 'verified') and parent_id is null and tenant_id is not null`;

/** One look into the index for each tenant, however many backups it has. */
async function lastIdsOf(db: Transaction<Tables>, tenants: string[]): Promise<string[]> {
  const found = await db
    .with(
      "wanted(tenant)",
      () => sql<{ tenant: string }>`(values ${sql.join(tenants.map((id) => sql`(${id})`))})`,
    )
    .selectFrom("wanted")
    .select((is) =>
      is
        .selectFrom("backups")
        .select("id")
        .whereRef("tenant_id", "=", "wanted.tenant")
        .where(IS_TENANTS_OWN)
        .orderBy("tenant_id", "desc")
        .orderBy("id", "desc")
        .limit(1)
        .as("id"),
    )
    .execute();
  return found.flatMap(({ id }) => id ?? []);
}

/** Tenants that have backups: from one to the next through the index, past all the backups in between. */
async function tenantsKnown(db: Transaction<Tables>, { after, limit }: TenantPage): Promise<string[]> {
  const found = await db
    .withRecursive("known(tenant, nth)", (cte) => {
      const first = cte
        .selectFrom("backups")
        .select((is) => [is.fn.min<string | null>("tenant_id").as("tenant"), sql<number>`1`.as("nth")])
        .where(IS_TENANTS_OWN);
      return (after === null ? first : first.where("tenant_id", ">", plainText(after))).unionAll(
        cte
          .selectFrom("known")
          .select((is) => [
            is
              .selectFrom("backups")
              .select((one) => one.fn.min<string | null>("tenant_id").as("tenant"))
              .whereRef("tenant_id", ">", "known.tenant")
              .where(IS_TENANTS_OWN)
              .as("tenant"),
            sql<number>`known.nth + 1`.as("nth"),
          ])
          .where("known.tenant", "is not", null)
          .where("known.nth", "<", limit),
      );
    })
    .selectFrom("known")
    .select("tenant")
    .where("tenant", "is not", null)
    .orderBy("nth")
    .execute();
  return found.flatMap(({ tenant }) => tenant ?? []);
}

async function headsFor(db: Transaction<Tables>, filter: BackupFilter): Promise<Tables["backups"][]> {
  const query = backupQuery(db, filter);
  if (filter.reference === undefined) return query.execute();
  const reference = plainText(filter.reference);
  if (reference === "") return [];
  const exact = await named(query, reference).execute();
  return exact.length > 0 ? exact : beginningWith(query, reference).execute();
}

const copyRows = (db: Transaction<Tables>, ids: string[]): Promise<Tables["copies"][]> =>
  db.selectFrom("copies").selectAll().where("backup_id", "in", ids).execute();

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
