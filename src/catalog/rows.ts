import { JBackupError } from "../domain/errors.js";
import type { Layout, Row } from "./tables.js";

type FieldKind = "text" | "time" | "number" | "flag" | "json";

export const REBUILD_HINT =
  "Move the damaged catalog away and run `jbackup catalog rebuild`, which reads it back from the manifests.";

/** The row of a record. Text that PostgreSQL cannot hold (NUL, half a surrogate pair) becomes U+FFFD on both databases. */
export function toRow<Fields>(layout: Layout<Fields>, record: Fields): Row<Fields> {
  const row: Record<string, unknown> = {};
  for (const [key, kind] of fieldsOf(layout)) row[columnOf(key)] = stored(kind, record[key as keyof Fields]);
  return row as Row<Fields>;
}

export function fromRow<Fields>(layout: Layout<Fields>, row: Row<Fields>): Fields {
  const columns = row as Record<string, unknown>;
  const record: Record<string, unknown> = {};
  for (const [key, kind] of fieldsOf(layout)) record[key] = opened(kind, key, columns);
  return record as Fields;
}

const fieldsOf = (layout: object): [string, FieldKind][] => Object.entries(layout);

const columnNames = new Map<string, string>();

function columnOf(key: string): string {
  const known = columnNames.get(key);
  if (known !== undefined) return known;
  const name = key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  columnNames.set(key, name);
  return name;
}

function stored(kind: FieldKind, value: unknown): string | number | null {
  if (value === null || value === undefined) return kind === "json" ? "null" : null;
  if (kind === "json") return JSON.stringify(value);
  if (kind === "flag") return value ? 1 : 0;
  if (kind === "time") return isoTime(String(value));
  if (kind === "number") return Number.isFinite(value) ? Number(value) : null;
  return plainText(String(value));
}

function opened(kind: FieldKind, key: string, columns: Record<string, unknown>): unknown {
  const value = columns[columnOf(key)];
  if (kind === "flag") return value === 1;
  if (kind !== "json") return value;
  try {
    return JSON.parse(String(value));
  } catch (cause) {
    const message = `the catalog's record ${columns.id} is damaged: its ${key} is not JSON`;
    throw new JBackupError("catalog_unavailable", message, { hint: REBUILD_HINT, cause });
  }
}

export const plainText = (text: string): string => text.toWellFormed().replaceAll("\0", "\ufffd");

/** One spelling for each instant, so that times compare as text. */
export function isoTime(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) throw new JBackupError("bug", `not a time: ${text}`);
  return at.toISOString();
}
