const BARS = {
  unicode: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
  ascii: ["_", ".", "-", "=", "+", "*", "%", "#"],
};

/** The course of a quantity in a few letters, from its least to its most; nothing where there is no course yet. */
export function sparkline(values: readonly number[], places: number, isUnicode: boolean): string {
  if (values.length < 2) return "-";
  const bars = isUnicode ? BARS.unicode : BARS.ascii;
  const shown = thinned(values, places);
  const least = Math.min(...shown);
  const most = Math.max(...shown);
  return shown
    .map(
      (value) =>
        bars[most === least ? 0 : Math.round(((value - least) / (most - least)) * (bars.length - 1))],
    )
    .join("");
}

/** The first and the last stay. */
const thinned = (values: readonly number[], places: number): number[] =>
  values.length <= places
    ? [...values]
    : Array.from(
        { length: places },
        (_, at) => values[Math.round((at / (places - 1)) * (values.length - 1))] as number,
      );
