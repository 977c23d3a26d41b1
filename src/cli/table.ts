import { printable } from "./text.js";

export interface Column<Row> {
  title: string;
  value: (row: Row) => string;
  align?: "right";
  /** Columns with higher numbers are left out first when the terminal is narrow. */
  rank: number;
  /** In a terminal a longer text is cut to so many places. */
  most?: number;
  /** Put on when the widths are known: escape codes take no places. */
  paint?: (text: string, row: Row) => string;
}

const GAP = "  ";
const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1faff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}|\ufe0f/u;
const INVISIBLE = /^[\p{Mark}\p{Cc}\p{Cf}]*$/u;

const placesOf = (letter: string): number => (INVISIBLE.test(letter) ? 0 : WIDE.test(letter) ? 2 : 1);

/** Wide letters take two places on a terminal, combining marks none. */
export const widthOf = (text: string): number =>
  // biome-ignore format: one expression
  /^[\x20-\x7e]*$/.test(text) ? text.length : [...graphemes.segment(text)].reduce((sum, { segment }) => sum + placesOf(segment), 0);

/** As much as fits, and a sign that there was more. */
export function shortened(text: string, places: number): string {
  if (widthOf(text) <= places) return text;
  let kept = "";
  let width = 0;
  for (const { segment } of graphemes.segment(text)) {
    width += placesOf(segment);
    if (width > places - 1) break;
    kept += segment;
  }
  return `${kept}…`;
}

/** Lines broken at spaces; a word longer than a line stays whole, so that it can be copied. */
export function wrapped(text: string, places: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && widthOf(last) + 1 + widthOf(word) <= places)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

const pad = (text: string, width: number, align: "right" | undefined, painted = text): string => {
  const space = " ".repeat(Math.max(0, width - widthOf(text)));
  return align === "right" ? space + painted : painted + space;
};

const oneLine = (text: string): string => printable(text.replaceAll(/\s*\n\s*/g, " "));

/** Aligned columns; in a narrow terminal whole columns go, the least important first. */
export function tableText<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  places: number,
  title: (text: string) => string = (text) => text,
): string {
  const sized = columns.map((column) => {
    const most = Number.isFinite(places) ? (column.most ?? places) : places;
    const cells = rows.map((row) => shortened(oneLine(column.value(row)), most));
    return { column, cells, width: Math.max(widthOf(column.title), ...cells.map(widthOf)) };
  });
  const needed = (kept: typeof sized): number =>
    kept.reduce((sum, { width }) => sum + width + GAP.length, -GAP.length);
  let kept = sized;
  while (kept.length > 1 && needed(kept) > places) {
    const last = Math.max(...kept.map(({ column }) => column.rank));
    if (kept.every(({ column }) => column.rank === last)) break;
    kept = kept.filter(({ column }) => column.rank !== last);
  }
  const widths = kept.map(({ width }, at) => (at === kept.length - 1 ? roomLeft(kept, places) : width));
  const head = kept
    .map(({ column, width }) => pad(column.title, width, column.align))
    .join(GAP)
    .trimEnd();
  const line = (row: Row, number: number): string =>
    kept
      .map(({ column, cells, width }, at) => {
        const text = shortened(cells[number] ?? "", Math.max(1, widths[at] ?? width));
        return pad(text, width, column.align, column.paint?.(text, row));
      })
      .join(GAP)
      .trimEnd();
  return [title(head), ...rows.map(line)].join("\n");
}

/** What the last column may take: it is cut rather than wrapped. */
const roomLeft = (kept: { width: number }[], places: number): number =>
  places - kept.slice(0, -1).reduce((sum, { width }) => sum + width + GAP.length, 0);
