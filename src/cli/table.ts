export interface Column<Row> {
  title: string;
  value: (row: Row) => string;
  align?: "right";
  /** Columns with higher numbers are left out first when the terminal is narrow. */
  rank: number;
}

const GAP = "  ";

/** Wide characters take two places on a terminal, combining ones none. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) {
    if (/\p{Mark}/u.test(character)) continue;
    width +=
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u.test(
        character,
      )
        ? 2
        : 1;
  }
  return width;
}

const pad = (text: string, width: number, align: "right" | undefined): string => {
  const space = " ".repeat(Math.max(0, width - widthOf(text)));
  return align === "right" ? space + text : text + space;
};

/** Aligned columns; in a narrow terminal whole columns go, the least important first. */
export function tableText<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  places: number,
): string {
  const sized = columns.map((column) => {
    const cells = rows.map(column.value);
    return { column, cells, width: Math.max(widthOf(column.title), ...cells.map(widthOf)) };
  });
  const needed = (kept: typeof sized): number =>
    kept.reduce((sum, { width }) => sum + width + GAP.length, -GAP.length);
  let kept = sized;
  while (kept.length > 1 && needed(kept) > places) {
    const last = Math.max(...kept.map(({ column }) => column.rank));
    kept = kept.filter(({ column }) => column.rank !== last);
  }
  const line = (texts: string[]): string =>
    kept
      .map(({ column, width }, at) => pad(texts[at] ?? "", width, column.align))
      .join(GAP)
      .trimEnd();
  return [
    line(kept.map(({ column }) => column.title)),
    ...rows.map((_, row) => line(kept.map(({ cells }) => cells[row] ?? ""))),
  ].join("\n");
}
