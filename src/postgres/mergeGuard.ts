import { JBackupError } from "../domain/errors.js";
import { quoteName, type Session } from "./connection.js";
import type { ForeignKey } from "./mergeCatalog.js";
import type { MergeTable } from "./mergeTables.js";

/** Refuses what would make the merge see, or check, less than everything. */
export async function requireFullSight(
  target: Session,
  tables: MergeTable[],
  keys: ForeignKey[],
): Promise<void> {
  const rows = await target.rows<{ name: string }>(
    "select c.oid::regclass::text as name from pg_class c where c.oid = any($1::oid[]) and c.relrowsecurity and row_security_active(c.oid) order by 1",
    [tables.map(({ oid }) => oid)],
  );
  if (rows.length > 0)
    throw new JBackupError(
      "postgres_denied",
      `row-level security hides rows of ${rows.map(({ name }) => name).join(", ")} from user "${target.address.user}"`,
      {
        hint: `a merge must see every row: ALTER ROLE ${quoteName(target.address.user)} BYPASSRLS, or name another role in database.url`,
      },
    );
  const temporal = keys.filter(({ isTemporal }) => isTemporal);
  if (temporal.length > 0)
    throw new JBackupError(
      "target_refused",
      `a merge cannot check foreign keys over periods: ${temporal.map(({ name, childShown }) => `${name} of ${childShown}`).join(", ")}`,
      { hint: "name other tables with --tables, or restore beside with --into-db" },
    );
}

/**
 * Readers go on; writers wait, so that nobody slips in a row between the comparison and the insert. Tables that are only
 * referred to keep their rows for as long: with triggers silenced nobody else stops a parent from being deleted.
 */
export async function lockTables(
  target: Session,
  tables: MergeTable[],
  keys: ForeignKey[],
  isSilent: boolean,
): Promise<void> {
  const touched = new Set(tables.map(({ oid }) => oid));
  const wanted = new Map(
    tables.map(({ oid, from, shown }) => [oid, { from, shown, mode: "share row exclusive" }]),
  );
  if (isSilent)
    for (const { child, parent, parentFrom, parentShown } of keys)
      if (touched.has(child) && !touched.has(parent))
        wanted.set(parent, { from: parentFrom, shown: parentShown, mode: "share" });
  // always in the same order, so that two merges wait for each other instead of blocking each other
  const ordered = [...wanted].sort(([a], [b]) => Number(a) - Number(b));
  for (const [, { from, shown, mode }] of ordered) {
    try {
      await target.run(`lock table ${from} in ${mode} mode`);
    } catch (error) {
      if (!["55P03", "40P01"].includes(sqlState(error))) throw error;
      throw new JBackupError(
        "postgres_failed",
        `${shown} stayed locked by another session; nothing was changed`,
        {
          hint: "look for long transactions in pg_stat_activity, then run the merge again",
          cause: error,
        },
      );
    }
  }
}

const sqlState = (error: unknown): string =>
  ((error as Error).cause as { code?: string } | undefined)?.code ?? "";

/** Configuration tables of extensions: pg_dump carries their rows, but they belong to the extension's own code. */
export async function extensionRows(source: Session): Promise<string[]> {
  const tables = await source.rows<{ name: string; shown: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name, c.oid::regclass::text as shown
       from pg_extension e cross join lateral unnest(e.extconfig) member(oid)
       join pg_class c on c.oid = member.oid join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') order by 2`,
  );
  const filled: string[] = [];
  for (const { name, shown } of tables)
    if ((await source.rows(`select 1 as found from ${name} limit 1`)).length > 0) filled.push(shown);
  return filled.length === 0 ? [] : [`tables of extensions are not merged: ${filled.join(", ")}`];
}

/** Materialised views over the tables, directly or through other views. */
export async function staleViews(target: Session, oids: string[]): Promise<string[]> {
  const views = await target.rows<{ name: string }>(
    `with recursive reading(oid) as (
       select unnest($1::oid[])
       union
       select r.ev_class from reading join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = reading.oid
         join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid)
     select c.oid::regclass::text as name from reading join pg_class c on c.oid = reading.oid where c.relkind = 'm' and c.relispopulated order by 1`,
    [oids],
  );
  return views.length === 0
    ? []
    : [`refresh the materialised views: ${views.map(({ name }) => name).join(", ")}`];
}
