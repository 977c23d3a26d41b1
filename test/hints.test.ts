import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { COMMANDS, type CommandSpec, GLOBAL_OPTIONS, GROUPS } from "../src/cli/tree.js";
import { textsOf, VALUE } from "./architecture/tokens.js";
import { ROOT } from "./support/docs.js";

interface Said {
  file: string;
  at: string;
  text: string;
}

/** Every text of the program: what it says of its own commands must be so. */
const TEXTS: Said[] = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .flatMap((file) =>
    textsOf(readFileSync(join(ROOT, "src", file), "utf8")).map(({ text, line }) => ({
      file,
      at: `src/${file}:${line}`,
      text: text.replaceAll("\\n", "\n").replaceAll("\\", ""),
    })),
  );

/** Words that follow the name where no command is meant: `the jbackup that wrote this`. */
const NO_COMMANDS = new Set(
  "and as backs command container has is itself key keeps makes may on process queue read reads signs starts that version was write".split(
    " ",
  ),
);
/** Commands' names that mean something else there. */
const NO_CALLS = ["jbackup catalog", "jbackup cleanup credentials", "jbackup cleanup a key"];

const groups = new Set(GROUPS.map(({ name }) => name));
const nameOf = ({ usage }: CommandSpec): string => usage.replace(/ [[<].*$/, "");
const takenBy = ({ usage }: CommandSpec): number => usage.split(/ [[<]/).length - 1;
const optionsOf = ({ options = [] }: CommandSpec): string[] =>
  [...options, ...GLOBAL_OPTIONS].map(([flags]) => flags);
const named = (options: string[], flag: string): string | undefined =>
  flag === "--help" ? flag : options.find((flags) => flags.split(" ")[0] === flag);

/** What is wrong with the call of jbackup that a text begins with. Where prose begins, the call has ended. */
function problemWith(call: string): string | null {
  const [sentence = ""] = call.split(/[,;:()|`]|\.(?:\s|$)|\s'|'\s|\n|\s{2}/);
  const words = sentence.split(" ").filter((word) => word !== "");
  const [first = "", second = ""] = words;
  if (NO_COMMANDS.has(first)) return null;
  const isGroup = groups.has(first);
  const name = isGroup ? `${first} ${second}` : first;
  if (isGroup && second === VALUE) return null;
  const spec = COMMANDS.find((one) => nameOf(one) === name);
  if (spec === undefined) return `there is no command "${name}"`;
  const options = optionsOf(spec);
  let room = spec.usage.includes("...") ? Number.POSITIVE_INFINITY : takenBy(spec);
  let isProse = false;
  const rest = words.slice(isGroup ? 2 : 1);
  for (let at = 0; at < rest.length; at++) {
    const word = rest[at] ?? "";
    if (word.startsWith("--")) {
      const option = named(options, word);
      if (option === undefined) return `"${name}" has no ${word}`;
      if (option.includes("<") && rest[++at] === undefined) return `${word} needs a value`;
    } else if (!isProse && /^[A-Z"%]|^latest$/.test(word)) {
      if (room-- <= 0) return `"${name}" takes no ${word}`;
    } else isProse = true;
  }
  return null;
}

const callsIn = (text: string): string[] =>
  [...text.matchAll(/(?<![\w./~-])jbackup (?=[a-z])/g)]
    .filter(({ index }) => !NO_CALLS.some((no) => text.startsWith(no, index)))
    .map(({ index }) => text.slice(index + "jbackup ".length));

test("every command that a text names exists, with its flags and arguments", () => {
  const wrong = TEXTS.flatMap(({ at, text }) =>
    callsIn(text).flatMap((call) => {
      const problem = problemWith(call);
      return problem === null ? [] : [`${at}: ${problem}: ${text}`];
    }),
  );
  expect(wrong).toEqual([]);
  expect(TEXTS.flatMap(({ text }) => callsIn(text)).length).toBeGreaterThan(200);
});

/** Of files that a command's own file loads for it. */
const PART_OF: Record<string, string> = {
  restoreTenant: "restore",
  restoreConfig: "restore",
  testRestore: "verify",
};
/** What other programs are given, up to the end of the sentence. */
const OTHERS =
  /(^|[ `])(npx|b2|aws|node|psql|createuser|pg_checksums|pg_dump|pg_restore) [^;\n]*|^--queryformat=.*|^ --name-prefix .*/gs;

const flagsIn = (text: string): string[] =>
  [...text.replaceAll(OTHERS, "").matchAll(/(?<![\w-])--[a-z][a-z-]*[a-z]/g)].map(([flag]) => flag);

test("every flag that a command's own texts name is one of its own, or stands behind another command's name", () => {
  const wrong: string[] = [];
  for (const { file, at, text } of TEXTS) {
    const [, part = ""] = /^cli\/commands\/(\w+)\.ts$/.exec(file) ?? [];
    const own = file.startsWith("cli/wizards/init") ? "init" : (PART_OF[part] ?? part);
    const specs = COMMANDS.filter(({ load }) => String(load).includes(`/commands/${own}.`));
    if (specs.length === 0) continue;
    const known = specs.flatMap(optionsOf);
    const calls = problemWith(text) === null ? [text, ...callsIn(text)] : callsIn(text);
    const behindOthers = calls.flatMap(flagsIn);
    for (const flag of flagsIn(text))
      if (named(known, flag) === undefined && !behindOthers.includes(flag))
        wrong.push(`${at}: ${own} has no ${flag}: ${text}`);
  }
  expect(wrong).toEqual([]);
});

test("every flag that the engine names is one of some command", () => {
  const known = COMMANDS.flatMap(optionsOf);
  const wrong = TEXTS.filter(({ file, text }) => /^(engine|domain|config)\//.test(file) && text.includes(" "))
    .flatMap(({ at, text }) => flagsIn(text).map((flag) => ({ at, flag, text })))
    .filter(({ flag }) => named(known, flag) === undefined)
    .map(({ at, flag, text }) => `${at}: no command has ${flag}: ${text}`);
  expect(wrong).toEqual([]);
});

test("calls that are right are told from those that are not", () => {
  expect(problemWith(`list --kind tenant --tenant ${VALUE} shows its backups`)).toBeNull();
  expect(problemWith("restore latest --mode pitr --to TIME, then another")).toBeNull();
  expect(problemWith("lst shows")).toBe('there is no command "lst"');
  expect(problemWith("keys")).toBe('there is no command "keys "');
  expect(problemWith(`tenants export --tenant ${VALUE} --to TIME`)).toBe('"tenants export" has no --to');
  expect(problemWith("keys kit FILE")).toBe('"keys kit" takes no FILE');
  expect(problemWith("list --kind")).toBe("--kind needs a value");
});
