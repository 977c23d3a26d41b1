import { JBackupError } from "../domain/errors.js";
import { quoteName, type Session, translate } from "./connection.js";
import type { Column, ForeignKey, Uniqueness } from "./mergeCatalog.js";

/** Columns as a list, each behind the alias of its table if one is given. */
export const list = (columns: readonly { name: string }[], alias?: string): string =>
  columns.map(({ name }) => (alias ? `${alias}.` : "") + quoteName(name)).join(", ");

/** `(a, b)` after a table's name; nothing for a table without columns, for which SQL has no empty list. */
export const columnList = (columns: readonly Column[]): string =>
  columns.length === 0 ? "" : `(${list(columns)})`;

/** Two rows with the same key, by the operators of its index. */
export const sameKey = (key: Uniqueness, left: string, right: string): string =>
  key.parts
    .map(({ column, operator }) => {
      const name = quoteName(column ?? "");
      return `${left}.${name} ${operator} ${right}.${name}`;
    })
    .join(" and ");

/** A child row and the parent row that it refers to. */
export const refersTo = (key: ForeignKey, child: string, parent: string): string =>
  key.pairs
    .map((pair) => `${parent}.${quoteName(pair.parent)} ${pair.operator} ${child}.${quoteName(pair.child)}`)
    .join(" and ");

/** A child row that refers to anything at all. */
export const refersSomewhere = (key: ForeignKey, child: string): string =>
  key.pairs.map((pair) => `${child}.${quoteName(pair.child)} is not null`).join(" and ");

export async function count(session: Session, sql: string): Promise<number> {
  const [row] = await session.rows<{ many: string }>(`select count(*)::text as many from ${sql}`);
  return Number(row?.many ?? 0);
}

/** Runs one statement; answers how many rows it wrote. */
export async function write(session: Session, sql: string): Promise<number> {
  try {
    return (await session.client.query(sql)).rowCount ?? 0;
  } catch (error) {
    throw translate(error, session.address);
  }
}

export const rowsOf = (many: number, table: string): string =>
  `${many} ${many === 1 ? "row" : "rows"} of ${table}`;

/** Says "holds" of one and "hold" of several. */
export const verb = (many: number, one: string, several: string): string => (many === 1 ? one : several);

export const conflict = (problems: string[], hint: string): JBackupError =>
  new JBackupError("conflict", problems.join("; "), {
    hint: `nothing was changed; ${hint}`,
    details: { problems },
  });
