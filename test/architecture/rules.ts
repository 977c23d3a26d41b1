import { judgeCode, judgeModule } from "./homes.js";
import { importsOf } from "./imports.js";
import { isCompositionRoot, judgeImport, layerOf } from "./layers.js";
import { tokensOf } from "./tokens.js";

const LONGEST_FILE = 400;
const VAGUE_FOLDERS = /(^|\/)(utils?|helpers?|common|lib|misc)\//;

/** Everything that a source file does against ARCHITECTURE.md, one sentence each: file, line, rule. */
export function problemsOf(path: string, source: string): string[] {
  const tokens = tokensOf(source);
  const found = [...judgePlace(path), ...judgeText(path, source), ...judgeCode(path, tokens)];
  for (const one of importsOf(tokens)) {
    for (const problem of [judgeImport(path, one), judgeModule(path, one)]) {
      if (problem) found.push({ line: one.line, problem });
    }
  }
  return found.sort((a, b) => a.line - b.line).map(({ line, problem }) => `${path}:${line}: ${problem}`);
}

function judgePlace(path: string): { line: number; problem: string }[] {
  const problems: string[] = [];
  const name = path.slice(path.lastIndexOf("/") + 1);
  if (!isCompositionRoot(path) && layerOf(path) === undefined) problems.push("the file belongs to no layer");
  if (VAGUE_FOLDERS.test(path)) problems.push("a folder is named for what it holds, not utils or common");
  // a declaration file bears the name of the package that it describes
  if (path.startsWith("src/") && !name.endsWith(".d.ts") && !/^[a-z][a-zA-Z0-9]*\.ts$/.test(name)) {
    problems.push("a file name is written in camelCase");
  }
  return problems.map((problem) => ({ line: 1, problem }));
}

function judgeText(path: string, source: string): { line: number; problem: string }[] {
  const lines = source.replace(/\n$/, "").split("\n");
  const problems = lines.flatMap((text, i) =>
    /\b(TODO|FIXME|XXX)\b/.test(text)
      ? [{ line: i + 1, problem: "unfinished work is not left in the source" }]
      : [],
  );
  if (path.startsWith("src/") && lines.length > LONGEST_FILE) {
    problems.push({
      line: LONGEST_FILE + 1,
      problem: `a file has at most ${LONGEST_FILE} lines, not ${lines.length}`,
    });
  }
  return problems;
}
