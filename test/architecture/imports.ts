import { posix } from "node:path";
import type { Token } from "./tokens.js";

export interface Import {
  /** What is written: a path, a package, or undefined when it is computed. */
  specifier: string | undefined;
  isTypeOnly: boolean;
  line: number;
}

/** Static, type-only and dynamic imports, re-exports and require, in the order of the file. */
export function importsOf(tokens: Token[]): Import[] {
  return tokens.flatMap((token, at) => {
    if (token.kind !== "word" || isMember(tokens, at)) return [];
    if (token.text === "require" && tokens[at + 1]?.text === "(") return [called(tokens, at)];
    if (token.text === "import" && tokens[at + 1]?.text === "(") return [called(tokens, at)];
    if (token.text === "import" || token.text === "export") return declared(tokens, at);
    return [];
  });
}

const isMember = (tokens: Token[], at: number): boolean => {
  const before = tokens[at - 1];
  return before?.kind === "mark" && (before.text === "." || before.text === "?.");
};

const called = (tokens: Token[], at: number): Import => {
  const argument = tokens[at + 2];
  const isLiteral = argument?.kind === "string" && [")", ","].includes(tokens[at + 3]?.text ?? "");
  return {
    specifier: isLiteral ? argument.text : undefined,
    isTypeOnly: tokens[at - 1]?.text === "typeof",
    line: tokens[at]?.line ?? 0,
  };
};

/** `import { type A }` still loads the module (verbatimModuleSyntax), so only `import type` counts as type-only. */
function declared(tokens: Token[], at: number): Import[] {
  const line = tokens[at]?.line ?? 0;
  const next = tokens[at + 1];
  if (next?.kind === "string") return [{ specifier: next.text, isTypeOnly: false, line }];
  const afterType = tokens[at + 2]?.text;
  const isTypeOnly =
    next?.text === "type" &&
    afterType !== "," &&
    !(afterType === "from" && tokens[at + 3]?.kind === "string");
  for (let i = at + 1; i < tokens.length; i++) {
    const token = tokens[i];
    const following = tokens[i + 1];
    if (token?.text === "from" && token.kind === "word" && following?.kind === "string") {
      return [{ specifier: following.text, isTypeOnly, line }];
    }
    const canStandInClause =
      token?.kind === "word" || (token?.kind === "mark" && "{},*".includes(token.text));
    const isString = token?.kind === "string" && tokens[i + 1]?.text === "as";
    if (!canStandInClause && !isString) return [];
    // `export const x`, `export function f`: a declaration, not a re-export
    if (i === at + 1 && token?.kind === "word" && DECLARES.has(token.text)) return [];
    if (token?.text === "}" && following?.text !== "from") return [];
  }
  return [];
}

const DECLARES = new Set(
  "const let var function async class abstract interface enum namespace declare default".split(" "),
);

export type Target =
  | { kind: "file"; path: string }
  | { kind: "node"; name: string }
  | { kind: "package"; name: string };

/** What an import reaches: a file of this repository (path from its root), a part of Node, or a package. */
export function targetOf(importer: string, specifier: string, nodeModules: ReadonlySet<string>): Target {
  if (specifier === "#migrations") return { kind: "file", path: "migrations/index.ts" };
  if (specifier.startsWith(".")) {
    const path = posix.join(posix.dirname(importer), specifier).replace(/\.js$/, ".ts");
    return { kind: "file", path };
  }
  const bare = specifier.replace(/^node:/, "");
  if (specifier.startsWith("node:") || nodeModules.has(bare)) return { kind: "node", name: bare };
  const parts = specifier.split("/");
  return { kind: "package", name: parts.slice(0, specifier.startsWith("@") ? 2 : 1).join("/") };
}
