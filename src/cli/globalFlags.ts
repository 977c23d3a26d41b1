import { COMMANDS, GLOBAL_OPTIONS } from "./tree.js";

export interface GlobalFlags {
  config: string | undefined;
  envFile: string | undefined;
  json: boolean;
  quiet: boolean;
  verbose: boolean;
  noInput: boolean;
}

/** The flags whose next word is their value, and so no flag. */
const TAKE_VALUES = new Set(
  [...GLOBAL_OPTIONS, ...COMMANDS.flatMap(({ options }) => options ?? [])]
    .filter(([flags]) => flags.includes("<"))
    .map(([flags]) => flags.split(" ")[0]),
);

export const wantsValue = (word: string | undefined): boolean => TAKE_VALUES.has(word);

/** Read before anything else is parsed, because even a usage error must come out as --json wants it. */
export function globalFlagsIn(argv: string[]): GlobalFlags {
  const seen = new Set<string>();
  let [config, envFile]: (string | undefined)[] = [];
  for (let at = 0; at < argv.length && argv[at] !== "--"; at++) {
    const word = argv[at] ?? "";
    if (word.startsWith("--config=")) config = word.slice("--config=".length);
    else if (word === "--config") config = argv[++at];
    else if (word.startsWith("--environment-file=")) envFile = word.slice("--environment-file=".length);
    else if (word === "--environment-file") envFile = argv[++at];
    else if (TAKE_VALUES.has(word)) at++;
    else seen.add(word);
  }
  return {
    config,
    envFile,
    json: seen.has("--json"),
    quiet: seen.has("--quiet"),
    verbose: seen.has("--verbose"),
    noInput: seen.has("--no-input"),
  };
}

/**
 * A flag that stands where another one's value should, as after an empty variable in a script: taken for that value, it would
 * not do what whoever wrote it relies on.
 */
export function swallowedFlag(argv: string[]): { by: string; flag: string } | null {
  for (let at = 0; at < argv.length && argv[at] !== "--"; at++) {
    const by = argv[at] ?? "";
    if (!TAKE_VALUES.has(by)) continue;
    const flag = argv[++at];
    if (flag?.startsWith("--")) return { by, flag };
  }
  return null;
}

/** The command words of a line: no flags, no values. */
export function wordsIn(argv: string[]): string[] {
  const words: string[] = [];
  for (let at = 0; at < argv.length && argv[at] !== "--"; at++) {
    const word = argv[at] ?? "";
    if (TAKE_VALUES.has(word)) at++;
    else if (!word.startsWith("-")) words.push(word);
  }
  return words;
}
