/** Numbers and times as people read them. */

const STEPS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** In units of 1000, with two or three digits. */
export function bytesText(bytes: number): string {
  let value = bytes;
  let step = 0;
  // what would be rounded up to 1000 belongs to the next unit
  while (value >= 999.5 && step < STEPS.length - 1) {
    value /= 1000;
    step++;
  }
  return `${step === 0 || value >= 99.95 ? Math.round(value) : value.toFixed(1)} ${STEPS[step]}`;
}

export function durationText(ms: number): string {
  if (Math.round(ms) < 1_000) return `${Math.round(ms)} ms`;
  if (Math.round(ms / 100) < 600) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(ms / 60_000);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const AGES: [number, string][] = [
  [86_400_000 * 365, "y"],
  [86_400_000 * 7, "w"],
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
];

export function agoText(at: string, now: Date): string {
  const ms = now.getTime() - Date.parse(at);
  if (Math.abs(ms) < 60_000) return "just now";
  const [length, unit] = AGES.find(([size]) => Math.abs(ms) >= size) ?? [60_000, "min"];
  const count = Math.floor(Math.abs(ms) / length);
  return ms < 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
}

/** "1 backup", "2 backups". */
export const countedText = (count: number, what: string): string =>
  `${countText(count)} ${what}${count === 1 ? "" : "s"}`;

export const countText = (count: number): string => count.toLocaleString("en");

const shown = (character: string): string =>
  character === "\n" ? character : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;

/** Control characters could move a terminal's cursor or colours: they are shown, not obeyed. */
export const printable = (text: string): string => text.replace(/\p{Cc}/gu, shown);

/** The same for text that was painted: its colours stay. */
export const printableInColour = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are told by their escape codes
  text.replace(/\u001b\[\d+m|\p{Cc}/gu, (found) => (found.endsWith("m") ? found : shown(found)));
