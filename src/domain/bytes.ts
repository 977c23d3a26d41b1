const UNITS: Record<string, number> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  PB: 1e15,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  PiB: 2 ** 50,
};

/** `500GB`, `1.5 TiB`: bytes, or null when the text is no size. */
export function parseBytes(text: string): number | null {
  const [, count, unit] = /^(\d+(?:\.\d+)?) ?([A-Za-z]+)$/.exec(text) ?? [];
  const factor = UNITS[unit ?? ""];
  return count === undefined || factor === undefined ? null : Math.round(Number(count) * factor);
}
