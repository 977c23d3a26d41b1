import { JBackupError } from "../../domain/errors.js";
import { nearest } from "../../domain/similar.js";
import type { TenantFacts, TenantTableFacts } from "../../domain/tenantBackup.js";
import { isOwned } from "../../domain/tenantGraph.js";
import { quoteName } from "../connection.js";
import { type Column, shownName } from "../mergeCatalog.js";
import type { MergeTable } from "../mergeTables.js";
import { type Graph, type OwnedTable, storedColumns } from "./ownership.js";
import type { TenantColumn } from "./schema.js";

/** A table of the backup with its live counterpart. */
export interface Pair {
  facts: TenantTableFacts;
  live: OwnedTable;
  table: MergeTable;
  /** Of the temporary tables. */
  nth: number;
  /** Columns of the backup that the live table lacks, or holds as another type: staged as text. */
  strangers: string[];
  /** Both sides have the same stored columns. */
  isSame: boolean;
}

export const staging = ({ nth }: Pair): string => `pg_temp.jbackup_staged_${nth}`;
/** What the tenant has now. */
export const liveRows = ({ nth }: Pair): string => `pg_temp.jbackup_live_${nth}`;

export interface Paired {
  owned: Pair[];
  shared: Pair[];
  /** What would be lost, or refused by PostgreSQL, as far as it shows without looking at rows. */
  blockers: string[];
}

/** Tables are found by name, columns too: schemas move on between a backup and a restore. */
export function pairTables(graph: Graph, facts: TenantFacts, wanted: string[]): Paired {
  const chosen = facts.tables.filter((table) => table.class === "shared" || isWanted(table, wanted));
  refuseUnknown(facts, wanted);
  const blockers: string[] = [];
  const pairs: Pair[] = [];
  for (const table of chosen) {
    const live = graph.tables.find(
      ({ table: { schema, name } }) => schema === table.schema && name === table.name,
    );
    if (live === undefined) {
      if (table.rows > 0) blockers.push(`${table.table} held ${table.rows} rows, and is not there any more`);
      continue;
    }
    if (table.class !== "shared" && !isOwned(live)) {
      blockers.push(`${table.table} is ${live.class} now, and was the tenant's in the backup`);
      continue;
    }
    if (table.class === "shared" && isOwned(live)) continue; // whose its rows became, the backup cannot tell
    const pair = pairOf(table, live, pairs.length);
    blockers.push(...newDemands(pair));
    pairs.push(pair);
  }
  return {
    owned: pairs.filter(({ facts: { class: is } }) => is !== "shared"),
    shared: pairs.filter(({ facts: { class: is } }) => is === "shared"),
    blockers,
  };
}

const isWanted = ({ table, schema, name }: TenantTableFacts, wanted: string[]): boolean =>
  wanted.length === 0 || wanted.some((one) => [table, name, `${schema}.${name}`].includes(one));

function refuseUnknown({ tables }: TenantFacts, wanted: string[]): void {
  for (const name of wanted) {
    if (tables.some((table) => isWanted(table, [name]))) continue;
    const meant = nearest(
      name,
      tables.flatMap(({ table, name: bare }) => [table, bare]),
    );
    throw new JBackupError("usage", `the tenant's backup has no table "${name}"`, {
      hint: meant ? `did you mean ${meant}?` : "jbackup show BACKUP lists its tables",
    });
  }
}

function pairOf(facts: TenantTableFacts, live: OwnedTable, nth: number): Pair {
  const columns: TenantColumn[] = storedColumns(live.table);
  const sameType = (column: Column): boolean =>
    facts.columns.some(({ name, type }) => name === column.name && type === column.type);
  const shared = columns.filter(sameType);
  const known = (name: string | null): boolean => shared.some((column) => column.name === name);
  const tellsApart = live.table.key?.parts.every(({ column }) => known(column)) ?? false;
  const key = tellsApart ? live.table.key : null;
  return {
    facts,
    live,
    nth,
    strangers: facts.columns.filter(({ name }) => !known(name)).map(({ name }) => name),
    isSame: columns.length === facts.columns.length && shared.length === columns.length,
    table: {
      ...live.table,
      root: null,
      sourceFrom: "",
      shared,
      columns,
      key,
      rules: live.table.uniqueness.filter((rule) => rule !== key),
    },
  };
}

/** New columns that take no row of the backup. */
const newDemands = ({ facts, table }: Pair): string[] =>
  facts.rows === 0
    ? []
    : table.columns
        .filter(
          (column) =>
            column.isNotNull &&
            !column.hasDefault &&
            column.identity === "" &&
            !facts.columns.some(({ name }) => name === column.name),
        )
        .map(
          ({ name }) =>
            `${facts.table}.${shownName(name)} must not be null and has no default, but the backup does not know it`,
        );

/** Columns of the staging table in the order of the COPY text. */
export const stagingColumns = ({ facts, table, strangers }: Pair): string[] =>
  facts.columns.map(({ name }) => {
    const live = table.columns.find((column) => column.name === name);
    return `${quoteName(name)} ${live === undefined || strangers.includes(name) ? "text" : live.type}`;
  });
