import { JBackupError } from "../domain/errors.js";
import { nearest } from "../domain/similar.js";
import { plainName, quoteName, type Session } from "./connection.js";
import {
  type Column,
  columnsOf,
  type FoundTable,
  listTables,
  shownName,
  type Uniqueness,
  uniquenessOf,
} from "./mergeCatalog.js";
import { typeDrift } from "./mergeTypes.js";

/** A table of the backup and its live counterpart. */
export interface MergeTable extends FoundTable {
  /** How the backup's side is read. */
  sourceFrom: string;
  /** What both know and the live table can be given. */
  shared: Column[];
  /** Every live column but generated ones. */
  columns: Column[];
  /** What tells rows apart; null when nothing does. */
  key: Uniqueness | null;
  /** All that forbids two rows to hold the same, other than the key. */
  rules: Uniqueness[];
}

/** As a person may write its name. */
const namesOf = (table: FoundTable): string[] => [
  table.shown,
  `${table.schema}.${table.name}`,
  `${quoteName(table.schema)}.${quoteName(table.name)}`,
  table.name,
  quoteName(table.name),
];

/** The tables of one name; a partition is refused, and so is what is not there. */
function tablesNamed(name: string, tables: FoundTable[]): FoundTable[] {
  const named = tables.filter((table) => namesOf(table).includes(name));
  const roots = named.filter(({ root }) => root === null);
  const [partition] = named;
  if (roots.length > 0 || partition === undefined) return roots;
  throw new JBackupError("usage", `${partition.shown} is a partition of ${partition.root}`, {
    hint: `name ${partition.root}: its rows are merged as a whole`,
  });
}

function noTable(name: string, known: string[]): JBackupError {
  const meant = nearest(name, known);
  return new JBackupError("usage", `the backup has no table "${name}"`, {
    hint: meant ? `did you mean ${meant}?` : "jbackup show BACKUP lists its tables",
  });
}

/** The tables named by the user, or all of them. */
function chosen(tables: FoundTable[], wanted: string[]): FoundTable[] {
  const roots = tables.filter(({ root }) => root === null);
  if (wanted.length === 0) return roots;
  const picked = wanted.flatMap((name) => {
    const found = tablesNamed(name, tables);
    if (found.length > 0) return found;
    throw noTable(
      name,
      roots.flatMap(({ shown, name: bare }) => [shown, bare]),
    );
  });
  return [...new Set(picked)];
}

/**
 * Refuses what no merge can do with these names, before anything is fetched. Of the backup only names are known by then, and not
 * all of them: of partitioned tables it lists the partitions.
 */
export async function requireTables(target: Session, wanted: string[], recorded: string[]): Promise<void> {
  const live = await listTables(target);
  const known = [...new Set([...recorded, ...live.map(({ shown }) => shown)])];
  for (const name of wanted) {
    if (tablesNamed(name, live).length > 0) continue;
    const [gone] = recorded.filter((shown) => writtenAs(shown).includes(name));
    if (gone !== undefined) throw doesNotFit([`the live database has no table ${gone}`]);
    throw noTable(name, [...known, ...known.map(bareName)]);
  }
}

const LAST_PART = /\.("(?:[^"]|"")+"|[^".]+)$/;
const bareName = (shown: string): string => LAST_PART.exec(shown)?.[1] ?? shown;

function writtenAs(shown: string): string[] {
  const bare = bareName(shown);
  const schema = shown.slice(0, -bare.length - 1);
  return [shown, bare, plainName(bare), `${plainName(schema)}.${plainName(bare)}`];
}

const doesNotFit = (blockers: string[]): JBackupError =>
  new JBackupError("target_refused", `the backup does not fit the live database: ${blockers.join("; ")}`, {
    hint: "name the tables that fit with --tables, or restore beside with --into-db",
    details: { blockers },
  });

/** Pairs every table of the backup with the live one; whatever would lose something is said, all of it at once. */
export async function pairTables(source: Session, target: Session, wanted: string[]): Promise<MergeTable[]> {
  const all = await listTables(source);
  const live = await listTables(target);
  const blockers: string[] = [];
  const found: { theirs: FoundTable; ours: FoundTable }[] = [];
  for (const theirs of chosen(all, wanted)) {
    const ours = live.find(({ schema, name }) => schema === theirs.schema && name === theirs.name);
    if (!ours) blockers.push(`the live database has no table ${theirs.shown}`);
    else if (ours.root !== null) blockers.push(`${ours.shown} is a partition of ${ours.root} now`);
    else found.push({ theirs, ours });
  }
  const sourceOids = found.map(({ theirs }) => theirs.oid);
  const targetOids = found.map(({ ours }) => ours.oid);
  const theirColumns = await columnsOf(source, sourceOids);
  const ourColumns = await columnsOf(target, targetOids);
  const uniqueness = await uniquenessOf(target, targetOids);
  const tables: MergeTable[] = [];
  for (const { theirs, ours } of found) {
    const backed = theirColumns.get(theirs.oid) ?? [];
    const now = ourColumns.get(ours.oid) ?? [];
    blockers.push(...(await columnDrift(source, theirs, backed, now)));
    tables.push({
      ...ours,
      sourceFrom: theirs.from,
      ...matchColumns(backed, now, uniqueness.get(ours.oid) ?? []),
    });
  }
  blockers.push(...(await typeDrift(source, sourceOids, target, targetOids)));
  if (blockers.length === 0) return tables;
  throw doesNotFit(blockers);
}

function matchColumns(backed: Column[], now: Column[], uniqueness: Uniqueness[]) {
  const columns = now.filter(({ isGenerated }) => !isGenerated);
  const shared = columns.filter(({ name }) => backed.some((column) => column.name === name));
  const tellsApart = (rule: Uniqueness): boolean =>
    rule.predicate === null &&
    !rule.isExclusion &&
    rule.parts.every(({ column, isNotNull }) => isNotNull && shared.some(({ name }) => name === column));
  const rank = (rule: Uniqueness): number =>
    rule.isPrimary ? 0 : rule.isReplicaIdentity ? 1 : 1 + rule.parts.length;
  const key = uniqueness.filter(tellsApart).sort((a, b) => rank(a) - rank(b))[0] ?? null;
  return { columns, shared, key, rules: uniqueness.filter((rule) => rule !== key) };
}

const holds = async (source: Session, table: FoundTable, condition: string): Promise<boolean> =>
  (await source.rows(`select 1 as held from ${table.from} where ${condition} limit 1`)).length > 0;

async function columnDrift(
  source: Session,
  table: FoundTable,
  backed: Column[],
  now: Column[],
): Promise<string[]> {
  const found: string[] = [];
  for (const column of backed) {
    const live = now.find(({ name }) => name === column.name);
    const named = `${table.shown}.${shownName(column.name)}`;
    const holdsValues = (): Promise<boolean> => holds(source, table, `${quoteName(column.name)} is not null`);
    if (live === undefined || (live.isGenerated && !column.isGenerated)) {
      if (!column.isGenerated && (await holdsValues()))
        found.push(
          `${named} holds values, but ${live ? "is computed in the live table" : "the live table has no such column"}`,
        );
    } else if (live.type !== column.type && !live.isGenerated)
      found.push(`${named} is ${column.type} in the backup and ${live.type} now`);
    else if (live.isNotNull && !column.isNotNull && !live.isGenerated) {
      if (await holds(source, table, `${quoteName(column.name)} is null`))
        found.push(`${named} must not be null now, but is in some rows of the backup`);
    }
  }
  for (const live of now)
    if (
      live.isNotNull &&
      !live.hasDefault &&
      live.identity === "" &&
      !backed.some(({ name }) => name === live.name)
    )
      found.push(
        `${table.shown}.${shownName(live.name)} must not be null and has no default, but the backup does not know it`,
      );
  return found;
}
