const GRAVE = /\b(?:FATAL|PANIC):\s/;
/** What a server on its way up or down says to everybody who comes. */
const PASSING =
  /the database system is (?:starting up|shutting down|in recovery|not yet accepting|not accepting)|terminating .* due to administrator command/;
const BELONGS = /\b(?:DETAIL|HINT):\s/;
const FEW = 4;

/** Why a server ended: its last grave message, with what explains it; else simply the last lines. */
export function lastWords(log: string): string {
  const lines = log.trim().split("\n");
  const at = lines.findLastIndex((line) => GRAVE.test(line) && !PASSING.test(line));
  if (at < 0) return lines.slice(-FEW).join("; ");
  const behind = lines.slice(at + 1);
  const end = behind.findIndex((line) => !BELONGS.test(line) && !line.startsWith("\t"));
  const explained = end < 0 ? behind : behind.slice(0, end);
  return [lines[at] as string, ...explained].map((line) => line.trim()).join("; ");
}

/** What to do about a restored server that did not come up, by what it said. */
export function hintFor(words: string): string | null {
  if (!GRAVE.test(words)) return null;
  if (/requested timeline \d+ is not a child|highest timeline \d+ of the primary/.test(words))
    return "the backup does not lead to that timeline: jbackup wal status shows which one does, restore with its label";
  if (/could not (?:map|create|resize) .*shared memory|could not create semaphores|No space left/.test(words))
    return "the machine lacks what the server asked for, as it says: make room, then restore again";
  return "the server's log says why; another backup may still come back: jbackup list --kind full, then jbackup restore with its label";
}
