import type { TableRestore } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import { quoteName, quoteText, type Session } from "./connection.js";
import { type ConflictPolicy, mergeTable } from "./mergeRows.js";
import { type ForeignKey, foreignKeys, inOrder, type MergeTable, pairTables } from "./mergeTables.js";

export interface MergeRequest {
  /** The backup, restored beside the live database: its rows, not necessarily its indexes and constraints. */
  source: Session;
  target: Session;
  onConflict: ConflictPolicy;
  /** Only these; all when empty. */
  tables: string[];
  onProgress(done: number, total: number, table: string): void;
  signal: AbortSignal;
}

export interface MergeResult {
  tables: TableRestore[];
  rowsRestored: number;
  warnings: string[];
}

/** Rows of the backup into the live database, all of them in one transaction: any trouble leaves it as it was. */
export async function mergeDatabase(request: MergeRequest): Promise<MergeResult> {
  const { target } = request;
  await target.run("begin; set local lock_timeout = '30s'; set local row_security = off");
  try {
    const result = await mergeAll(request);
    await target.run("commit");
    return result;
  } catch (error) {
    await target.run("rollback");
    throw error;
  }
}

async function mergeAll({
  source,
  target,
  onConflict,
  tables,
  onProgress,
  signal,
}: MergeRequest): Promise<MergeResult> {
  const pairs = await pairTables(source, target, tables);
  const oids = pairs.map(({ table }) => table.oid);
  await refuseFiltered(
    target,
    pairs.map(({ table }) => table),
  );
  await lock(
    target,
    pairs.map(({ table }) => table),
  );
  const keys = await foreignKeys(target, oids);
  const isSilent = await silenceTriggers(target);
  const ordered = inOrder(pairs, keys, isSilent);
  if (!isSilent) await target.run("set constraints all deferred");

  const results: TableRestore[] = [];
  const warnings: string[] = isSilent ? [] : await firingTriggers(target, oids);
  for (const [at, { from, table }] of ordered.entries()) {
    signal.throwIfAborted();
    onProgress(at, ordered.length, table.shown);
    const { result, leftOut } = await mergeTable(
      source,
      from,
      target,
      table,
      onConflict,
      `pg_temp.jbackup_merge_${at}`,
    );
    results.push(result);
    warnings.push(...leftOut);
  }
  onProgress(ordered.length, ordered.length, "done");
  if (isSilent) for (const key of keys) await requireNoOrphans(target, key);
  warnings.push(...(await addLargeObjects(source, target)), ...(await staleViews(target)));
  await moveSequences(target, oids);
  return {
    tables: results.sort((a, b) => (a.table < b.table ? -1 : 1)),
    rowsRestored: results.reduce((sum, { inserted, updated }) => sum + inserted + updated, 0),
    warnings,
  };
}

async function refuseFiltered(target: Session, tables: MergeTable[]): Promise<void> {
  const rows = await target.rows<{ name: string }>(
    "select c.oid::regclass::text as name from pg_class c where c.oid::text = any($1) and c.relrowsecurity and row_security_active(c.oid)",
    [tables.map(({ oid }) => oid)],
  );
  if (rows.length === 0) return;
  throw new JBackupError(
    "postgres_denied",
    `row-level security hides rows of ${rows.map(({ name }) => name).join(", ")} from user "${target.address.user}"`,
    {
      hint: `a merge must see every row: ALTER ROLE ${quoteName(target.address.user)} BYPASSRLS, or name another role in database.url`,
    },
  );
}

/** Readers go on; writers wait, so that nobody slips in a row between the comparison and the insert. */
async function lock(target: Session, tables: MergeTable[]): Promise<void> {
  try {
    for (const table of tables.toSorted((a, b) => Number(a.oid) - Number(b.oid)))
      await target.run(`lock table ${table.from} in share row exclusive mode`);
  } catch (error) {
    if (((error as Error).cause as { code?: string } | undefined)?.code !== "55P03") throw error;
    throw new JBackupError(
      "postgres_failed",
      "a table stayed locked by somebody else for 30 s; nothing was changed",
      {
        hint: "look for long transactions in pg_stat_activity, then run the merge again",
        cause: error,
      },
    );
  }
}

/** Triggers would rewrite rows and write elsewhere. Where the role may, they keep silent; foreign keys are then checked by query. */
async function silenceTriggers(target: Session): Promise<boolean> {
  const [role] = await target.rows<{ may: string; major: string }>(
    `select (select rolsuper from pg_roles where rolname = current_user)::text as may, current_setting('server_version_num') as major`,
  );
  let may = role?.may === "true";
  if (!may && Number(role?.major) >= 150_000) {
    const [granted] = await target.rows<{ may: string }>(
      "select has_parameter_privilege('session_replication_role', 'set')::text as may",
    );
    may = granted?.may === "true";
  }
  if (may) await target.run("set local session_replication_role = replica");
  return may;
}

async function firingTriggers(target: Session, oids: string[]): Promise<string[]> {
  const rows = await target.rows<{ name: string }>(
    `select t.tgname || ' on ' || t.tgrelid::regclass::text as name from pg_trigger t
      where t.tgrelid::text = any($1) and not t.tgisinternal and t.tgenabled in ('O', 'A') order by 1`,
    [oids],
  );
  return rows.map(({ name }) => `the trigger ${name} fired: this role may not silence it`);
}

async function requireNoOrphans(target: Session, key: ForeignKey): Promise<void> {
  const present = key.columns.map((name) => `c.${quoteName(name)} is not null`).join(" and ");
  const match = key.columns
    .map((name, at) => `p.${quoteName(key.refersColumns[at] ?? "")} = c.${quoteName(name)}`)
    .join(" and ");
  const [row] = await target.rows<{ many: string }>(
    `select count(*)::text as many from ${key.tableFrom} c where ${present} and not exists (select from ${key.refersFrom} p where ${match})`,
  );
  if (row?.many === "0") return;
  throw new JBackupError(
    "conflict",
    `${row?.many} rows of ${key.tableFrom} would refer to rows of ${key.refersFrom} that do not exist (${key.name}); nothing was changed`,
    { hint: `merge ${key.refersFrom} too, or look at the rows in a copy with --into-db` },
  );
}

/** Large objects that are gone come back under their own numbers; those that exist stay as they are. */
async function addLargeObjects(source: Session, target: Session): Promise<string[]> {
  const ids = async (session: Session): Promise<string[]> =>
    (
      await session.rows<{ id: string }>("select oid::text as id from pg_largeobject_metadata order by oid")
    ).map(({ id }) => id);
  const present = new Set(await ids(target));
  const missing = (await ids(source)).filter((id) => !present.has(id));
  for (const id of missing) {
    const [object] = await source.rows<{ content: string }>("select lo_get($1::oid)::text as content", [id]);
    await target.rows("select lo_from_bytea($1::oid, $2::bytea)", [id, object?.content ?? "\\x"]);
  }
  return missing.length === 0 ? [] : [`${missing.length} large objects were brought back`];
}

async function staleViews(target: Session): Promise<string[]> {
  const views = await target.rows<{ name: string }>(
    "select c.oid::regclass::text as name from pg_class c where c.relkind = 'm' and c.relispopulated order by 1",
  );
  return views.length === 0
    ? []
    : [`refresh the materialised views: ${views.map(({ name }) => name).join(", ")}`];
}

/** Sequences that feed the tables move past the highest value, never back. */
async function moveSequences(target: Session, oids: string[]): Promise<void> {
  const found = await target.rows<{
    sequence: string;
    table: string;
    column: string;
    up: string;
    last: string;
  }>(
    `select distinct s.seqrelid::regclass::text as sequence, format('%I.%I', n.nspname, c.relname) as table, a.attname as column,
            (s.seqincrement > 0)::text as up, coalesce(pg_sequence_last_value(s.seqrelid), s.seqstart - s.seqincrement)::text as last
       from pg_sequence s
       join (select d.objid as seq, d.refobjid as rel, d.refobjsubid as att from pg_depend d
              where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
             union
             select d.refobjid, ad.adrelid, ad.adnum from pg_depend d join pg_attrdef ad on ad.oid = d.objid
              where d.classid = 'pg_attrdef'::regclass and d.refclassid = 'pg_class'::regclass) used on used.seq = s.seqrelid
       join pg_class c on c.oid = used.rel join pg_namespace n on n.oid = c.relnamespace
       join pg_attribute a on a.attrelid = used.rel and a.attnum = used.att
      where used.rel::text = any($1)`,
    [oids],
  );
  for (const { sequence, table, column, up, last } of found) {
    const furthest = up === "true" ? "max" : "min";
    const beyond = up === "true" ? ">" : "<";
    await target.rows(
      `select setval(${quoteText(sequence)}::regclass, furthest) from (select ${furthest}(${quoteName(column)})::bigint as furthest from ${table}) t where furthest ${beyond} ${BigInt(last)}`,
    );
  }
}
