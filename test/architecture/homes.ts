import { type Import, targetOf } from "./imports.js";
import type { Token } from "./tokens.js";

interface Home {
  /** The sentence shown when it is broken. */
  rule: string;
  /** The files for which it does not hold. */
  home: RegExp;
}

/** Code that may stand in one place only; the words and marks are matched one by one, strings by their contents. */
const CODE_HOMES: (Home & { code: string[][] })[] = [
  {
    rule: "only src/main.ts calls process.exit",
    code: [["process", ".", "exit"]],
    home: /^src\/main\.ts$/,
  },
  {
    rule: "only src/cli/output.ts writes to standard output",
    code: [
      ["process", ".", "stdout"],
      ...["log", "info", "debug", "table", "dir", "group"].map((name) => ["console", ".", name]),
    ],
    home: /^src\/cli\/(output|completion)\.ts$/,
  },
  {
    rule: "only src/config reads environment variables",
    code: [
      ["process", ".", "env"],
      ["process", "[", "env"],
    ],
    home: /^src\/(config\/.*|main\.ts)$/,
  },
  {
    rule: "only src/sys/clock.ts reads the current time",
    code: [
      ["Date", ".", "now"],
      ["new", "Date", "(", ")"],
      ["performance", ".", "now"],
      ["process", ".", "hrtime"],
    ],
    home: /^src\/sys\/clock\.ts$/,
  },
  {
    rule: "only src/sys uses Math.random",
    code: [["Math", ".", "random"]],
    home: /^src\/sys\//,
  },
  {
    rule: "domain is pure and uses no global with effects",
    code: [
      ...["process", "console", "crypto", "performance", "globalThis"].map((name) => [name, "."]),
      ...["setTimeout", "setInterval", "setImmediate"].map((name) => [name, "("]),
    ],
    home: /^(?!src\/domain\/)/,
  },
  {
    rule: "process is not taken apart, or these rules could not see what is used of it",
    code: [["}", "=", "process", ";"]],
    home: /^$/,
  },
];

/** Modules that one place only may import, even for their types. */
const MODULE_HOMES: (Home & { modules: RegExp })[] = [
  {
    rule: "only src/cli/confirm.ts and src/cli/wizards prompt (inquirer)",
    modules: /^(inquirer|@inquirer\/.*)$/,
    home: /^src\/cli\/(confirm\.ts|wizards(\.ts|\/))/,
  },
  {
    rule: "only src/postgres, src/sys/aside.ts and the secrets of src/config spawn programs (execa, child_process)",
    modules: /^(execa|child_process)$/,
    home: /^src\/(postgres\/|sys\/aside\.ts|config\/[^/]*secret)/i,
  },
  {
    rule: "only src/catalog and migrations know kysely",
    modules: /^kysely$/,
    home: /^(src\/catalog\/|migrations\/)/,
  },
  {
    rule: "the global process is used, not node:process, so that these rules see it",
    modules: /^process$/,
    home: /^$/,
  },
  {
    rule: "only src/sys/clock.ts imports node:perf_hooks",
    modules: /^perf_hooks$/,
    home: /^src\/sys\/clock\.ts$/,
  },
];

export interface Finding {
  line: number;
  problem: string;
}

export function judgeCode(path: string, tokens: Token[]): Finding[] {
  return CODE_HOMES.filter(({ home }) => !home.test(path)).flatMap(({ rule, code }) =>
    code.flatMap((pattern) =>
      tokens.filter((_, at) => matches(tokens, at, pattern)).map(({ line }) => ({ line, problem: rule })),
    ),
  );
}

function matches(tokens: Token[], at: number, pattern: string[]): boolean {
  const before = tokens[at - 1]?.text;
  // `this.process.exit` is something else, `globalThis.process.exit` is not
  if ((before === "." || before === "?.") && tokens[at - 2]?.text !== "globalThis") return false;
  return pattern.every((text, i) => {
    const token = tokens[at + i];
    return token && token.kind !== "regexp" && (token.text === text || (text === "." && token.text === "?."));
  });
}

export function judgeModule(path: string, { specifier }: Import): string | undefined {
  if (specifier === undefined) return undefined;
  const target = targetOf(path, specifier, new Set(["child_process", "process", "perf_hooks"]));
  if (target.kind === "file") return undefined;
  return MODULE_HOMES.find(({ modules, home }) => modules.test(target.name) && !home.test(path))?.rule;
}
