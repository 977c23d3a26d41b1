import { quoteName, quoteText, type Session } from "../connection.js";
import { qualified } from "../facts.js";
import { type ForeignKey, shownName, type Uniqueness } from "../mergeCatalog.js";
import { count, rowsOf, write } from "../mergeSql.js";
import type { Graph } from "./ownership.js";
import { type Pair, staging } from "./pair.js";
import type { TenantColumn } from "./schema.js";

/** A tenant's rows as another tenant's, beside the first. */
export interface Cloning {
  oldId: string;
  newId: string;
}

const NUMBERS = /^(smallint|integer|bigint|numeric)/;
const TEXTS = /^(text|character varying|citext|character|"char"|name)/;
const SECRETS = /(token|secret|password|passwd|api_?key|private_?key)/i;

/** Columns whose values were exchanged, by table. */
type Changed = Map<Pair, Set<string>>;

/** New keys where the old ones are taken, everything that refers to them following; global values marked; secrets left behind. */
export async function cloneStaged(
  session: Session,
  graph: Graph,
  pairs: Pair[],
  keys: ForeignKey[],
  cloning: Cloning,
  transformed: Set<string>,
): Promise<string[]> {
  const changed: Changed = new Map(pairs.map((pair) => [pair, new Set<string>()]));
  const told: string[] = await mentions(session, pairs, cloning.oldId);
  await renameOwner(session, graph, pairs, cloning, changed);
  const exchanges = await exchangeKeys(session, pairs, keys, changed);
  for (const pair of pairs) {
    transformed.add(pair.facts.table);
    told.push(...(await markGlobals(session, pair, pairs, keys, cloning, exchanges, changed)));
    told.push(...(await dropSecrets(session, pair)));
  }
  return told;
}

async function renameOwner(
  session: Session,
  graph: Graph,
  pairs: Pair[],
  { newId }: Cloning,
  changed: Changed,
): Promise<void> {
  for (const pair of pairs) {
    const { owner } = pair.live;
    if (owner?.kind !== "column") continue;
    await write(session, `update ${staging(pair)} s set ${quoteName(owner.column)} = ${quoteText(newId)}`);
    changed.get(pair)?.add(owner.column);
  }
  const root = pairs.find(({ live }) => live.table.oid === graph.root.oid);
  // whatever refers to the tenant by a column of another name
  for (const { child, parent, pairs: columns } of graph.references) {
    const pair = pairs.find(({ live }) => live.table.oid === child);
    const column = columns.length === 1 ? columns[0]?.child : undefined;
    if (root === undefined || pair === undefined || parent !== root.live.table.oid || column === undefined)
      continue;
    if (changed.get(pair)?.has(column) ?? true) continue;
    await write(
      session,
      `update ${staging(pair)} s set ${quoteName(column)} = ${quoteText(newId)} where s.${quoteName(column)} is not null`,
    );
    changed.get(pair)?.add(column);
  }
}

/** Old values of a column with the new ones, in a temporary table. */
interface Exchange {
  pair: Pair;
  column: string;
  map: string;
}

async function exchangeKeys(
  session: Session,
  pairs: Pair[],
  keys: ForeignKey[],
  changed: Changed,
): Promise<Exchange[]> {
  const exchanges: Exchange[] = [];
  for (const pair of pairs)
    for (const column of ownKeyColumns(pair, pairs, keys, changed)) {
      const value = await newValue(session, pair, column);
      exchanges.push(await makeMap(session, pair, column.name, value, exchanges.length));
    }
  for (const { pair, column, map } of exchanges) await exchange(session, pair, column, map, changed);
  await handDown(session, pairs, keys, exchanges, 0, changed);
  return exchanges;
}

/** Whatever refers to an exchanged value is exchanged as well, and what refers to that: keys are handed down from table to table. */
async function handDown(
  session: Session,
  pairs: Pair[],
  keys: ForeignKey[],
  exchanges: Exchange[],
  from: number,
  changed: Changed,
): Promise<void> {
  for (let at = from; at < exchanges.length; at++) {
    const done = exchanges[at];
    if (done === undefined) continue;
    for (const key of keys.filter(({ parent }) => parent === done.pair.live.table.oid)) {
      const child = pairs.find(({ live }) => live.table.oid === key.child);
      const column = key.pairs.find(({ parent }) => parent === done.column)?.child;
      if (child === undefined || column === undefined || changed.get(child)?.has(column)) continue;
      await exchange(session, child, column, done.map, changed);
      exchanges.push({ pair: child, column, map: done.map });
    }
  }
}

/** Columns of a key that say nothing but which row it is, and are not taken from a parent. */
function ownKeyColumns(pair: Pair, pairs: Pair[], keys: ForeignKey[], changed: Changed): TenantColumn[] {
  const fromParent = (name: string): boolean =>
    keys.some(
      ({ child, parent, pairs: columns }) =>
        child === pair.live.table.oid &&
        parent !== child &&
        pairs.some(({ live }) => live.table.oid === parent) &&
        columns.some((column) => column.child === name),
    );
  const isFree = ({ name, type, identity, hasDefault }: TenantColumn): boolean =>
    !changed.get(pair)?.has(name) &&
    !fromParent(name) &&
    (identity !== "" || hasDefault || type === "uuid" || pair.facts.keyColumns.length === 1) &&
    (type === "uuid" || NUMBERS.test(type));
  return pair.live.table.columns.filter(
    (column) => pair.live.table.keyColumns.includes(column.name) && isFree(column),
  );
}

async function makeMap(
  session: Session,
  pair: Pair,
  column: string,
  value: string,
  nth: number,
): Promise<Exchange> {
  const map = `pg_temp.jbackup_map_${nth}`;
  const name = quoteName(column);
  await session.run(
    `create temporary table ${map} on commit drop as
       select old, ${value} as new from (select distinct s.${name} as old from ${staging(pair)} s order by 1) found;
     create index on ${map} (old); analyze ${map}`,
  );
  return { pair, column, map };
}

/** From the column's own sequence where it has one, so that nobody else gets the same. */
async function newValue(session: Session, pair: Pair, { name, type }: TenantColumn): Promise<string> {
  if (type === "uuid") return "gen_random_uuid()";
  const table = qualified(pair.live.table);
  const [row] = await session.rows<{ sequence: string | null }>(
    "select pg_get_serial_sequence($1, $2) as sequence",
    [table, name],
  );
  if (row?.sequence) return `nextval(${quoteText(row.sequence)})::${type}`;
  return `(select coalesce(max(${quoteName(name)}), 0) from ${pair.live.table.from}) + row_number() over (order by old)`;
}

async function exchange(
  session: Session,
  pair: Pair,
  column: string,
  map: string,
  changed: Changed,
): Promise<number> {
  const name = quoteName(column);
  changed.get(pair)?.add(column);
  return write(
    session,
    `update ${staging(pair)} s set ${name} = m.new from ${map} m where m.old = s.${name}`,
  );
}

/** Values that nobody else may have: a text gets the new tenant's id behind it, and whatever refers to it follows. */
async function markGlobals(
  session: Session,
  pair: Pair,
  pairs: Pair[],
  keys: ForeignKey[],
  { newId }: Cloning,
  exchanges: Exchange[],
  changed: Changed,
): Promise<string[]> {
  const told: string[] = [];
  const { live, table } = pair;
  const isFree = ({ parts, isExclusion }: Uniqueness): boolean =>
    !isExclusion && parts.every(({ column }) => column === null || !changed.get(pair)?.has(column));
  for (const rule of live.table.uniqueness.filter(isFree)) {
    const column = table.shared.find(
      ({ name, type }) => TEXTS.test(type) && rule.parts.some((part) => part.column === name),
    );
    if (column === undefined) continue; // told as a conflict, if it is one
    const at = exchanges.length;
    const made = await makeMap(session, pair, column.name, `old || ${quoteText(`-${newId.slice(-12)}`)}`, at);
    exchanges.push(made);
    const many = await exchange(session, pair, column.name, made.map, changed);
    await handDown(session, pairs, keys, exchanges, at, changed);
    if (many > 0)
      told.push(
        `${rowsOf(many, live.table.shown)} got another ${shownName(column.name)}: ${rule.name} lets nobody share one`,
      );
  }
  return told;
}

async function dropSecrets(session: Session, pair: Pair): Promise<string[]> {
  const told: string[] = [];
  for (const column of pair.table.shared.filter(({ name, type }) => SECRETS.test(name) && TEXTS.test(type))) {
    const name = quoteName(column.name);
    const value = column.isNotNull ? "encode(sha256(gen_random_uuid()::text::bytea), 'hex')" : "null";
    const many = await write(
      session,
      `update ${staging(pair)} s set ${name} = ${value} where s.${name} is not null`,
    );
    if (many > 0)
      told.push(
        `${rowsOf(many, pair.facts.table)} ${column.isNotNull ? "got a new" : "lost their"} ${shownName(column.name)}: a clone must not share secrets`,
      );
  }
  return told;
}

/** Short ids would be found everywhere. */
const FINDABLE = 8;

/** The old id where no foreign key tells of it: in texts and documents. It is reported, for nobody knows what it means there. */
async function mentions(session: Session, pairs: Pair[], oldId: string): Promise<string[]> {
  if (oldId.length < FINDABLE) return [];
  const told: string[] = [];
  for (const pair of pairs)
    for (const { name } of pair.table.shared.filter(({ type }) => TEXTS.test(type) || /^json/.test(type))) {
      if (pair.live.owner?.kind === "column" && pair.live.owner.column === name) continue;
      const many = await count(
        session,
        `${staging(pair)} s where strpos(s.${quoteName(name)}::text, ${quoteText(oldId)}) > 0`,
      );
      if (many > 0)
        told.push(`${rowsOf(many, pair.facts.table)} still name tenant ${oldId} in ${shownName(name)}`);
    }
  return told;
}
