import type { Session } from "./connection.js";
import { quoteName } from "./connection.js";
import type { Uniqueness } from "./mergeCatalog.js";
import type { ConflictPolicy, Pending } from "./mergeCompare.js";
import { conflict, count, rowsOf, sameKey, verb, write } from "./mergeSql.js";
import type { MergeTable } from "./mergeTables.js";

/**
 * The rows of a relation that take part in a rule, with what they hold of it as jbackup_1, jbackup_2, ...
 * The expressions come from the index and name columns bare, so the relation goes by the table's own name inside.
 */
function holding(rule: Uniqueness, relation: string, table: MergeTable, where = "true", extra = ""): string {
  const parts = rule.parts.map(({ expression }, at) => `${expression} as jbackup_${at + 1}`);
  const conditions = [where, ...(rule.predicate === null ? [] : [`(${rule.predicate})`])].join(" and ");
  return `(select ${[...parts, extra].filter((part) => part !== "").join(", ")} from ${relation} as ${quoteName(table.name)} where ${conditions})`;
}

const sameValues = (rule: Uniqueness, left: string, right: string): string =>
  rule.parts
    .map(({ operator }, at) => {
      const [a, b] = [`${left}.jbackup_${at + 1}`, `${right}.jbackup_${at + 1}`];
      // arrays take two nulls for equal, and can be hashed
      return rule.areNullsEqual ? `array[${a}] operator(pg_catalog.=) array[${b}]` : `${a} ${operator} ${b}`;
    })
    .join(" and ");

const PENDING = "jbackup_left is null";
const ID = "ctid as jbackup_id";

const keyColumns = (table: MergeTable): string =>
  (table.key?.parts ?? []).map(({ column }) => quoteName(column ?? "")).join(", ");

/** Pending rows that another live row stands in the way of; one that is updated itself is not the old one any more. */
function againstLive(pending: Pending, rule: Uniqueness): string {
  const { table, rows, updates, gone } = pending;
  const conditions: string[] = [];
  if (table.key !== null && updates > 0)
    conditions.push(
      `not exists (select from ${rows} u where u.jbackup_action <> 'insert' and ${sameKey(table.key, "u", "b")})`,
    );
  // where it stands tells a row that will go also where no key does
  if (gone !== undefined)
    conditions.push(
      `not exists (select from ${gone} g where g.jbackup_ctid = b.jbackup_place and g.jbackup_tableoid = b.jbackup_table)`,
    );
  const place = gone === undefined ? "" : "ctid as jbackup_place, tableoid as jbackup_table";
  const extra = [keyColumns(table), place].filter((part) => part !== "").join(", ");
  const staying = conditions.length === 0 ? "" : ` where ${conditions.join(" and ")}`;
  return `select distinct a.jbackup_id from ${holding(rule, rows, table, PENDING, ID)} a
     join ${holding(rule, table.from, table, "true", extra)} b on ${sameValues(rule, "a", "b")}${staying}`;
}

/** Pending rows of which the live rule, younger than the backup, allows only one. */
const amongThemselves = ({ table, rows }: Pending, rule: Uniqueness): string =>
  `select distinct a.jbackup_id from ${holding(rule, rows, table, PENDING, ID)} a
     join ${holding(rule, rows, table, PENDING, ID)} b on a.jbackup_id <> b.jbackup_id and ${sameValues(rule, "a", "b")}`;

/** How many pending rows each rule refuses, judged by how the table would be in the end. */
export async function findCollisions(
  target: Session,
  pending: Pending,
): Promise<{ rule: string; rows: number }[]> {
  const collisions: { rule: string; rows: number }[] = [];
  if (pending.inserts + pending.updates === 0) return collisions;
  for (const find of [againstLive, amongThemselves])
    for (const rule of pending.table.rules) {
      const rows = await count(target, `(${find(pending, rule)}) collisions`);
      if (rows > 0) collisions.push({ rule: rule.name, rows });
    }
  return collisions;
}

/**
 * Rows of the backup whose unique values belong to another row: left out when existing rows win, else refused.
 * Judged by how the table would be in the end, so that rows may take over or swap values.
 */
export async function settleCollisions(
  target: Session,
  pending: Pending,
  policy: ConflictPolicy,
): Promise<string[]> {
  const problems: string[] = [];
  // without an index, overlaps among many rows would be looked for pair by pair
  for (const { definition } of pending.table.rules.filter(({ isExclusion }) => isExclusion))
    await target.run(`create index on ${pending.rows} ${definition}; analyze ${pending.rows}`);
  for (const find of [againstLive, amongThemselves]) {
    for (const rule of pending.table.rules) {
      if (pending.inserts + pending.updates === 0) return problems;
      if (policy === "skip") await leaveOut(target, pending, rule, find);
      else {
        const found = await count(target, `(${find(pending, rule)}) collisions`);
        if (found > 0)
          problems.push(
            `${rowsOf(found, pending.table.shown)} ${verb(found, "holds", "hold")} the same value of ${rule.name} as another row`,
          );
      }
    }
  }
  return problems;
}

async function leaveOut(
  target: Session,
  pending: Pending,
  rule: Uniqueness,
  find: (pending: Pending, rule: Uniqueness) => string,
): Promise<void> {
  const found = await write(
    target,
    `update ${pending.rows} set jbackup_left = ${quoteRule(rule)} where ctid in (${find(pending, rule)})`,
  );
  if (found === 0) return;
  pending.inserts -= found;
  pending.left.push({
    rows: found,
    reason: `${rowsOf(found, pending.table.shown)} ${verb(found, "was", "were")} left out: another row holds the same value of ${rule.name}`,
  });
}

const quoteRule = (rule: Uniqueness): string => `'${rule.name.replaceAll("'", "''")}'`;

/**
 * Updates run one by one, and a value may still be held by a row whose own update comes later, as when two rows swap.
 * Those rows are deleted and inserted anew; only where foreign keys do not act on a delete.
 */
export async function settleTakeovers(target: Session, pending: Pending, isSilent: boolean): Promise<void> {
  const { table, rows, updates } = pending;
  if (!table.key || updates === 0) return;
  const key = table.key;
  const immediate = table.rules.filter(({ isDeferrable }) => isSilent || !isDeferrable);
  const holders = immediate.map((rule) => ({
    name: rule.name,
    sql: `select ${keyColumns(table)} from ${holding(rule, table.from, table, "true", keyColumns(table))} b
           where exists (select from ${holding(rule, rows, table, PENDING, keyColumns(table))} a
                          where ${sameValues(rule, "a", "b")} and not (${sameKey(key, "a", "b")}))`,
  }));
  // PostgreSQL lets an update set such a column to nothing but its default
  const fixed = table.shared
    .filter(({ identity }) => identity === "always")
    .map(({ name }) => quoteName(name));
  if (fixed.length > 0)
    holders.push({
      name: `the identity column ${fixed.join(", ")}`,
      sql: `select ${key.parts.map(({ column }) => `b.${quoteName(column ?? "")}`).join(", ")} from ${table.from} b join ${rows} a on ${sameKey(key, "a", "b")}
             where a.jbackup_action = 'update' and (${fixed.map((name) => `a.${name} <> b.${name}`).join(" or ")})`,
    });
  for (const { name, sql } of holders) {
    const found = await write(
      target,
      `update ${rows} u set jbackup_action = 'replace' from (${sql}) b where u.jbackup_action = 'update' and ${sameKey(key, "u", "b")}`,
    );
    if (found === 0) continue;
    if (!isSilent)
      throw conflict(
        [`${rowsOf(found, table.shown)} would have to be deleted and inserted anew because of ${name}`],
        "run the restore as a superuser, or look at the rows in a copy with --into-db",
      );
    pending.replaces += found;
  }
}
