/** What the server's own statistics say of a cluster: noted with every physical backup, cheap, and about right. */
export interface Census {
  databases: { name: string; bytes: number }[];
  /** Of the database that is protected. */
  tables: CountedTable[];
}

export interface CountedTable {
  table: string;
  rows: number;
}

export interface ComparedTable {
  table: string;
  /** Null where it was not there when the backup was made. */
  recorded: number | null;
  /** Null where it is not there any more. */
  restored: number | null;
}

export function compareTables(recorded: CountedTable[], restored: CountedTable[]): ComparedTable[] {
  const before = new Map(recorded.map(({ table, rows }) => [table, rows]));
  const after = new Map(restored.map(({ table, rows }) => [table, rows]));
  return [...new Set([...before.keys(), ...after.keys()])].sort().map((table) => ({
    table,
    recorded: before.get(table) ?? null,
    restored: after.get(table) ?? null,
  }));
}

/** Rows that were counted in the snapshot of the backup: every difference is one. */
export const exactDifferences = (tables: ComparedTable[]): string[] =>
  tables
    .filter(({ recorded, restored }) => recorded !== restored)
    .map(({ table, recorded, restored }) => {
      if (recorded === null) return `${table} was not in the backup`;
      return `${table} has ${restored ?? "no"} rows where ${recorded} were recorded`;
    });

/** Statistics may be a little behind: below this nothing is concluded from them. */
const FEWEST_ROWS = 10;

/** Against estimates only what is gone altogether counts: that is how a backup of nothing looks. */
export const roughDifferences = (tables: ComparedTable[]): string[] =>
  tables.flatMap(({ table, recorded, restored }) => {
    if (recorded === null) return [];
    if (restored === null) return [`${table} is not there`];
    return restored === 0 && recorded >= FEWEST_ROWS
      ? [`${table} is empty, and had about ${recorded} rows`]
      : [];
  });
