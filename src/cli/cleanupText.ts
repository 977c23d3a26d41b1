import { type Column, tableText, widthOf, wrapped } from "./table.js";
import { printable } from "./text.js";

export interface CleanupRow {
  backup: string;
  storage: string;
  does: "keep" | "remove";
  why: string;
}

const COLUMNS: Column<CleanupRow>[] = [
  { title: "BACKUP", value: ({ backup }) => backup, rank: 0 },
  { title: "STORAGE", value: ({ storage }) => storage, rank: 0 },
  { title: "DOES", value: ({ does }) => does, rank: 0 },
  { title: "WHY", value: ({ why }) => why, rank: 0 },
];

/** Where goes what, and why: all of that matters, so a terminal too narrow for the table gets the same by storage and reason. */
export function cleanupText(rows: readonly CleanupRow[], columns: number): string {
  const whole = tableText(rows, COLUMNS, Number.POSITIVE_INFINITY);
  return whole.split("\n").every((line) => widthOf(line) <= columns) ? whole : byReason(rows, columns);
}

const INDENT = "  ";

function byReason(rows: readonly CleanupRow[], columns: number): string {
  const groups = new Map<string, string[]>();
  for (const { storage, does, why, backup } of rows) {
    const head = `${printable(storage)}, ${does}: ${printable(why)}`;
    groups.set(head, [...(groups.get(head) ?? []), printable(backup)]);
  }
  return [...groups]
    .flatMap(([head, labels]) => [
      ...wrapped(head, columns),
      ...labels.map((label) => indented(label, columns)),
    ])
    .join("\n");
}

/** A label stays whole, so that it can be copied; what is nearly too long does without the indent. */
const indented = (label: string, columns: number): string =>
  widthOf(label) + INDENT.length <= columns ? INDENT + label : label;
