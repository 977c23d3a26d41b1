export interface Token {
  kind: "word" | "string" | "number" | "regexp" | "mark";
  /** For a string: its contents. */
  text: string;
  line: number;
  /** Of a template: whether a value stands before this piece of it, and behind it. */
  piece?: { continues: boolean; goesOn: boolean };
}

const PATTERNS: [Token["kind"] | "blank", RegExp][] = [
  ["blank", /\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\//y],
  ["word", /#?[\p{ID_Start}$_][\p{ID_Continue}$]*/uy],
  ["number", /\d[\w.]*/y],
  ["string", /"(?:\\[\s\S]|[^"\\])*"|'(?:\\[\s\S]|[^'\\])*'/y],
  ["regexp", /\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/\w*/y],
  ["mark", /\?\.|=>|\.{3}|[\s\S]/y],
];

const WORDS_BEFORE_REGEXP = new Set([
  "return",
  "typeof",
  "case",
  "in",
  "of",
  "await",
  "yield",
  "void",
  "else",
]);

const startsExpression = (before: Token | undefined): boolean => {
  if (!before) return true;
  if (before.kind === "mark") return !")]}".includes(before.text);
  return before.kind === "word" && WORDS_BEFORE_REGEXP.has(before.text);
};

/** TypeScript cut into words and marks; what stands in comments and in strings can no longer be taken for code. */
export function tokensOf(source: string): Token[] {
  const tokens: Token[] = [];
  const openTemplates: number[] = [];
  let depth = 0;
  let line = 1;
  let at = 0;

  const add = (
    kind: Token["kind"] | "blank",
    text: string,
    length: number,
    more: Pick<Token, "piece"> = {},
  ): void => {
    if (kind !== "blank") tokens.push({ kind, text, line, ...more });
    line += source.slice(at, at + length).split("\n").length - 1;
    at += length;
  };
  const addTemplatePart = (continues: boolean): void => {
    const [part = ""] = /(?:\\[\s\S]|\$(?!\{)|[^\\`$])*(?:`|\$\{|$)/y.exec(source.slice(at)) ?? [];
    const goesOn = part.endsWith("${");
    if (goesOn) openTemplates.push(depth++);
    add("string", part.replace(/(`|\$\{)$/, ""), part.length, { piece: { continues, goesOn } });
  };

  while (at < source.length) {
    if (source[at] === "`") {
      at++;
      addTemplatePart(false);
      continue;
    }
    if (source[at] === "}" && openTemplates.at(-1) === depth - 1) {
      openTemplates.pop();
      depth--;
      at++;
      addTemplatePart(true);
      continue;
    }
    for (const [kind, pattern] of PATTERNS) {
      if (kind === "regexp" && !startsExpression(tokens.at(-1))) continue;
      pattern.lastIndex = at;
      const text = pattern.exec(source)?.[0];
      if (text === undefined) continue;
      if (text === "{") depth++;
      if (text === "}") depth--;
      add(kind, kind === "string" ? text.slice(1, -1) : text, text.length);
      break;
    }
  }
  return tokens;
}

/** What stands where a value was put into a template. */
export const VALUE = "VALUE";

/** The texts of a source: of templates as a whole, with VALUE where something is filled in. */
export function textsOf(source: string): { text: string; line: number }[] {
  const texts: { text: string; line: number }[] = [];
  const open: { text: string; line: number }[] = [];
  for (const { kind, text, line, piece } of tokensOf(source)) {
    if (kind !== "string") continue;
    const before = piece?.continues ? open.pop() : undefined;
    const whole =
      before === undefined ? { text, line } : { ...before, text: `${before.text}${VALUE}${text}` };
    (piece?.goesOn ? open : texts).push(whole);
  }
  return texts;
}
