import { createHash } from "node:crypto";
import { isJBackupError } from "../../domain/errors.js";
import { quoteText, type Session } from "../connection.js";
import type { ForeignKey } from "../mergeCatalog.js";
import { findCollisions } from "../mergeCollisions.js";
import {
  differing,
  imageOf,
  makePending,
  missingByCount,
  missingByKey,
  type Pending,
} from "../mergeCompare.js";
import { inGroups } from "../mergeOrder.js";
import { settleOrphans } from "../mergeOrphans.js";
import { count, list, refersTo, rowsOf, sameKey, verb, write } from "../mergeSql.js";
import { type Graph, ownerPath } from "./ownership.js";
import { liveRows, type Pair, staging } from "./pair.js";

/** What may happen to rows: a replacement does all three. */
export interface Changes {
  createMissing: boolean;
  updateExisting: boolean;
  deleteNew: boolean;
}

export interface PlannedTable {
  table: string;
  inserted: number;
  updated: number;
  deleted: number;
  unchanged: number;
  conflicts: number;
}

/** Everything that would be written, before anything is. */
export interface Difference {
  pendings: Pending[];
  tables: PlannedTable[];
  /** Names the very rows and values: another plan has another one. */
  hash: string;
  blockers: string[];
}

const goneRows = ({ nth }: Pair): string => `pg_temp.jbackup_gone_${nth}`;

/** Parents before children, as far as there is an order. */
export const parentsFirst = (pairs: Pair[], keys: ForeignKey[]): Pair[] => {
  const byOid = new Map(pairs.map((pair) => [pair.live.table.oid, pair]));
  const edges = keys.flatMap(({ child, parent }) => {
    const [node, after] = [byOid.get(child), byOid.get(parent)];
    return node && after && node !== after ? [{ node, after }] : [];
  });
  return inGroups(pairs, edges).flat();
};

/** The tenant's rows as they are now, each with where it stands. Locked, unless they are only looked at. */
export async function readLive(
  session: Session,
  graph: Graph,
  pairs: Pair[],
  tenantId: string,
  isLocked: boolean,
): Promise<void> {
  for (const pair of pairs) {
    const { from, owner } = ownerPath(graph, pair.live);
    await session.run(
      `create temporary table ${liveRows(pair)} on commit drop as
         select ${[list(pair.table.columns, "t"), "t.ctid as jbackup_ctid", "t.tableoid as jbackup_tableoid"].filter((part) => part !== "").join(", ")}
           from ${from} where ${owner} = ${quoteText(tenantId)}${isLocked ? " for update of t" : ""};
       analyze ${liveRows(pair)}`,
    );
  }
}

/** Shared rows that are missing; those that are there stay as they are. */
export async function missingShared(session: Session, pairs: Pair[]): Promise<Pending[]> {
  const pendings: Pending[] = [];
  for (const pair of pairs) {
    const { table } = pair;
    const rows = rowsName(pair);
    await session.run(makePending(table, rows));
    const inserts =
      table.key === null
        ? 0
        : await write(session, missingByKey(table, table.key, staging(pair), rows, table.from));
    pendings.push({ table, rows, total: pair.facts.rows, inserts, updates: 0, replaces: 0, left: [] });
  }
  return pendings;
}

const rowsName = ({ nth }: Pair): string => `pg_temp.jbackup_rows_${nth}`;

/** Compares what is staged with what is there. The dry run does the same, and stops behind it. */
export async function compareTenant(
  session: Session,
  graph: Graph,
  pairs: Pair[],
  shared: Pending[],
  keys: ForeignKey[],
  changes: Changes,
): Promise<Difference> {
  const pendings: Pending[] = [];
  const tables: PlannedTable[] = [];
  const blockers: string[] = [];
  for (const pair of pairs) {
    const pending = await compareOne(session, pair, changes, pair.live.table.oid === graph.root.oid);
    pendings.push(pending);
    const problems = await conflictsOf(session, pair, pending);
    blockers.push(...problems.map(({ text }) => text));
    const { inserts, updates, deletes = 0 } = pending;
    tables.push({
      table: pair.facts.table,
      inserted: inserts,
      updated: updates,
      deleted: deletes,
      unchanged: await unchangedRows(session, pair, pending),
      conflicts: problems.reduce((sum, { rows }) => sum + rows, 0),
    });
  }
  blockers.push(...(await inboundReferences(session, pairs, pendings, keys)));
  const all = [...shared, ...pendings];
  if (blockers.length === 0) blockers.push(...(await missingParents(session, all, keys)));
  return { pendings: all, tables, hash: await hashOf(session, pairs, all), blockers };
}

async function compareOne(session: Session, pair: Pair, changes: Changes, isRoot: boolean): Promise<Pending> {
  const { table } = pair;
  const { key } = table;
  const [staged, live, rows, gone] = [staging(pair), liveRows(pair), rowsName(pair), goneRows(pair)];
  await session.run(
    `${makePending(table, rows)}; create temporary table ${gone} on commit drop as select * from ${live} with no data`,
  );
  const run = (wanted: boolean, sql: () => string): Promise<number> =>
    wanted ? write(session, sql()) : Promise.resolve(0);
  const inserts = await run(changes.createMissing, () =>
    key ? missingByKey(table, key, staged, rows, live) : missingByCount(table, staged, rows, live),
  );
  const updates = await run(changes.updateExisting && key !== null, () =>
    key ? differing(table, key, staged, rows, live) : "",
  );
  // the tenant itself is never deleted: too much refers to it
  const deletes = await run(changes.deleteNew && !isRoot, () =>
    key ? newByKey(pair, gone) : newByCount(pair, gone),
  );
  await session.run(`analyze ${rows}; analyze ${gone}`);
  return { table, rows, total: pair.facts.rows, inserts, updates, replaces: 0, left: [], deletes, gone };
}

function newByKey(pair: Pair, gone: string): string {
  const { key } = pair.table;
  return `insert into ${gone} select l.* from ${liveRows(pair)} l
    where not exists (select from ${staging(pair)} s where ${key ? sameKey(key, "l", "s") : "false"})`;
}

/** As many equal rows as the backup has stay, which of them does not matter. */
function newByCount(pair: Pair, gone: string): string {
  const { shared } = pair.table;
  return `insert into ${gone} select l.* from ${liveRows(pair)} l
    join (select jbackup_ctid, jbackup_tableoid, ${imageOf(shared, "x")} as image, row_number() over (partition by ${imageOf(shared, "x")}) as nth from ${liveRows(pair)} x) numbered
      on numbered.jbackup_ctid = l.jbackup_ctid and numbered.jbackup_tableoid = l.jbackup_tableoid
    left join (select ${imageOf(shared, "s")} as image, count(*) as many from ${staging(pair)} s group by 1) backed on backed.image = numbered.image
   where numbered.nth > coalesce(backed.many, 0)`;
}

async function unchangedRows(session: Session, pair: Pair, pending: Pending): Promise<number> {
  const live = await count(session, liveRows(pair));
  return live - pending.updates - (pending.deletes ?? 0);
}

/** Values that rows of others hold now. Whose they are is nobody's business here. */
async function conflictsOf(
  session: Session,
  pair: Pair,
  pending: Pending,
): Promise<{ text: string; rows: number }[]> {
  const { table } = pair;
  const found: { text: string; rows: number }[] = [];
  if (table.key !== null && pending.inserts > 0) {
    const rows = await count(
      session,
      `${pending.rows} s where s.jbackup_action = 'insert' and exists (select from ${table.from} t where ${sameKey(table.key, "t", "s")})`,
    );
    if (rows > 0)
      found.push({
        rows,
        text: `${rowsOf(rows, table.shown)} ${verb(rows, "has a key", "have keys")} (${table.key.name}) that ${verb(rows, "is", "are")} somebody else's now`,
      });
  }
  for (const { rule, rows } of await findCollisions(session, pending))
    found.push({
      rows,
      text: `${rowsOf(rows, table.shown)} ${verb(rows, "holds", "hold")} a value of ${rule} that another row holds now`,
    });
  return found;
}

/** Rows that stay must not refer to rows that go. */
async function inboundReferences(
  session: Session,
  pairs: Pair[],
  pendings: Pending[],
  keys: ForeignKey[],
): Promise<string[]> {
  const problems: string[] = [];
  for (const key of keys) {
    const at = pairs.findIndex(({ live }) => live.table.oid === key.parent);
    const parent = pendings[at];
    if (parent?.gone === undefined || (parent.deletes ?? 0) === 0) continue;
    const child = pairs.find(({ live }) => live.table.oid === key.child);
    const own = child && pendings[pairs.indexOf(child)];
    const isChanged = own?.table.key
      ? ` and not exists (select from ${own.rows} u where u.jbackup_action <> 'insert' and ${sameKey(own.table.key, "u", "c")})`
      : "";
    const staying = own
      ? ` and not exists (select from ${own.gone} x where x.jbackup_ctid = c.ctid and x.jbackup_tableoid = c.tableoid)${isChanged}`
      : "";
    const many = await count(
      session,
      `${key.childFrom} c where exists (select from ${parent.gone} g where ${refersTo(key, "c", "g")})${staying}`,
    );
    if (many > 0)
      problems.push(
        `${rowsOf(many, key.childShown)} that ${verb(many, "is", "are")} not restored ${verb(many, "refers", "refer")} by ${key.name} to rows of ${key.parentShown} that would go`,
      );
  }
  return problems;
}

/** What is written must not refer to what is not there: shared rows above all. */
async function missingParents(session: Session, all: Pending[], keys: ForeignKey[]): Promise<string[]> {
  try {
    await settleOrphans(session, all, keys, "fail");
    return [];
  } catch (error) {
    if (isJBackupError(error, "conflict")) return (error.details?.problems as string[]) ?? [error.message];
    throw error;
  }
}

async function hashOf(session: Session, pairs: Pair[], pendings: Pending[]): Promise<string> {
  const hash = createHash("sha256");
  for (const { table, rows, gone } of pendings) {
    const columns = table.shared.length === 0 ? [] : table.shared;
    const image = (alias: string): string => `md5(${imageOf(columns, alias)})`;
    const parts = [
      `select jbackup_action || ' ' || ${image("s")} as what from ${rows} s where jbackup_left is null`,
    ];
    if (gone !== undefined) parts.push(`select 'delete ' || ${image("g")} from ${gone} g`);
    // what is overwritten counts as well: somebody may have changed it since he looked
    const pair = pairs.find((one) => rowsName(one) === rows);
    if (pair !== undefined && table.key !== null)
      parts.push(
        `select 'over ' || ${image("l")} from ${liveRows(pair)} l join ${rows} s on ${sameKey(table.key, "l", "s")}
          where s.jbackup_left is null and s.jbackup_action <> 'insert'`,
      );
    const [row] = await session.rows<{ digest: string }>(
      `select md5(coalesce(string_agg(what, ',' order by what collate "C"), '')) as digest from (${parts.join(" union all ")}) planned`,
    );
    hash.update(`${table.shown} ${row?.digest}\n`);
  }
  return hash.update(String(pairs.length)).digest("hex").slice(0, 32);
}

/** Rows that go, by where they stand: they are locked since they were read. */
export async function deleteGone(session: Session, { table, gone, deletes = 0 }: Pending): Promise<number> {
  if (gone === undefined || deletes === 0) return 0;
  return write(
    session,
    `delete from ${table.from} t using ${gone} g where t.ctid = g.jbackup_ctid and t.tableoid = g.jbackup_tableoid`,
  );
}
