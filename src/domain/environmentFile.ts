const NAME = /^[A-Za-z_]\w*$/;
const COMMENT = /[#;](?:[^\\\n]|\\.|\\$)*/sy;
const KEY = /(.[^=\n]*)(=|\n|$)/sy;
const QUOTED = /[ \t\r]*(?:'([^']*)(?:'|$)|"((?:[^"\\]|\\.|\\$)*)(?:"|$))/sy;
const BARE = /(?:[^\\\n]|\\.|\\$)*/sy;

/** The variables of a file as systemd's EnvironmentFile= reads it: NAME=value lines, taken literally. No shell has a say. */
export function variablesIn(text: string): Record<string, string> {
  const variables: Record<string, string> = {};
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    at += found?.[0].length ?? 0;
    return found;
  };
  while (at < text.length) {
    take(/\s*/y);
    if (take(COMMENT) !== null) continue;
    const [, name = "", end] = take(KEY) ?? [];
    if (end !== "=") continue;
    const value = valueAt(take);
    if (NAME.test(name.trim())) variables[name.trim()] = value;
  }
  return variables;
}

/** Pieces in quotes follow each other; what stands bare goes to the end of the line. */
function valueAt(take: (pattern: RegExp) => RegExpExecArray | null): string {
  let value = "";
  for (let piece = take(QUOTED); piece !== null; piece = take(QUOTED))
    value +=
      piece[1] ??
      (piece[2] ?? "").replace(/\\([\\"`$\n]|$)/g, (_, what: string) => (what === "\n" ? "" : what));
  const bare = /^[ \t\r]*((?:[^\\]|\\.|\\$)*?)[ \t\r]*$/s.exec(take(BARE)?.[0] ?? "")?.[1] ?? "";
  return value + bare.replace(/\\(.|$)/gs, (_, what: string) => (what === "\n" ? "" : what));
}
